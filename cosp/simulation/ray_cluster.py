"""Where a run's actors live: a Ray of its own, or a cluster that runs already. Nodes are looked over beforehand."""

from __future__ import annotations

import signal
import socket
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from itertools import chain, zip_longest
from math import ceil
from typing import TYPE_CHECKING, Any

from cosp.errors import UserError
from cosp.simulation.attackers import laid_out

if TYPE_CHECKING:
    from cosp.experiment import Experiment
    from cosp.simulation.ray_pool import RayPool

REACH_S = 5.0
"""How long the machine at an address may take to answer."""
CLIENT_PORT = 10001
"""Of ``ray://HOST``, where Ray listens for it by default."""


@contextmanager
def ray_pool(
    experiment: Experiment, *, workers: int | None, address: str | None, devices: str | None, own_cores: int
) -> Iterator[RayPool]:
    """Join the cluster at ``address``, or start Ray on this machine, and yield a pool of actors that hold the data.

    ``workers`` None: one a core of the cluster; of a Ray of our own ``own_cores``. UserError says what is not there.
    """
    try:
        import ray
    except ImportError:
        raise UserError("--engine ray: Ray is not installed: pip install 'cosp[ray]'") from None
    from cosp.simulation.ray_pool import RayPool
    from cosp.simulation.ray_worker import Deaths, RunData

    with _connected(address, workers or own_cores):
        nodes = [node for node in ray.nodes() if node["Alive"]]
        data = ray.put(RunData(*laid_out(experiment)))
        shares = _gpu_shares(nodes, where := _places(nodes, workers), devices)
        deaths = ray.remote(Deaths).options(num_cpus=0, max_restarts=-1, max_task_retries=-1).remote()
        actors = [_actor(node, share, deaths) for node, share in zip(where, shares, strict=True)]
        _look_over(actors, data)
        yield RayPool([actor for _, actor in actors], data)


@contextmanager
def _connected(address: str | None, cores: int) -> Iterator[None]:
    import ray

    if address is None:
        how: dict[str, Any] = {"address": "local", "num_cpus": cores, "include_dashboard": False}
    else:
        _reach(address)
        how = {"address": address}
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Tip: In future versions of Ray", category=FutureWarning)
            ray.init(**how, log_to_driver=False, logging_level="ERROR", namespace="cosp")
    except Exception as error:  # Ray has no tree of errors for this
        place = f"--address {address}" if address else "--engine ray: Ray does not start here"
        raise UserError(f"{place}: {_reason(error)}") from error
    finally:
        for number, handler in zip(numbers, before, strict=True):  # the command line knows what to do at a signal
            signal.signal(number, handler)
    try:
        yield
    finally:
        ray.shutdown()


def _reason(error: Exception) -> str:
    """Return in a line why Ray could not be joined."""
    text = " ".join(str(error).split())
    if "ersion mismatch" in text:
        return f"{text}; rows are the same with the same versions alone, and Ray needs them"
    if isinstance(error, ConnectionError):
        return "no Ray cluster runs there; start one (ray start --head), or leave --address out and one starts here"
    return text[:400]


def _reach(address: str) -> None:
    """UserError unless something listens at ``address``; Ray itself would wait for a minute."""
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if address.startswith("ray://") and not host:
        host, port = port, str(CLIENT_PORT)
    if not host or "/" in host or not port.isdigit():
        raise UserError(f"--address {address}: must be auto, ray://HOST:PORT or HOST:PORT, e.g. --address auto")
    try:
        socket.create_connection((host.strip("[]"), int(port)), REACH_S).close()
    except (OSError, OverflowError) as error:
        raise UserError(
            f"--address {address}: no Ray cluster answers there ({error}); see `ray status` on its head node"
        ) from None


def _places(nodes: Sequence[dict[str, Any]], workers: int | None) -> list[dict[str, Any]]:
    """Return the node of every actor: one a core, in turns, over all nodes; again from the start if more are wanted."""
    cores = [[node] * int(node["Resources"].get("CPU", 0)) for node in sorted(nodes, key=lambda node: node["NodeID"])]
    turns = [node for node in chain.from_iterable(zip_longest(*cores)) if node is not None]
    if not turns:
        raise UserError("--engine ray: no node of the cluster has a CPU for workers (ray start --num-cpus)")
    wanted = workers or len(turns)
    return [turns[i % len(turns)] for i in range(wanted)]


def _gpu_shares(nodes: Sequence[dict[str, Any]], where: Sequence[dict[str, Any]], devices: str | None) -> list[float]:
    """Return the share of a GPU that every actor has: those of a node share its GPUs evenly: one each, or many on one.

    UserError if GPUs are asked for and a node with actors has none: rows would depend on who trained.
    """
    if devices not in (None, "cpu", "cuda"):
        raise UserError(f"--devices {devices}: on Ray it must be cpu or cuda; which GPU an actor gets is Ray's choice")
    gpus = {node["NodeID"]: int(node["Resources"].get("GPU", 0)) for node in nodes}
    actors = Counter(node["NodeID"] for node in where)
    if devices == "cpu" or (devices is None and not all(gpus[node] for node in actors)):
        return [0.0] * len(where)
    for node in where:
        if not gpus[node["NodeID"]]:
            raise UserError(
                f"--devices cuda: node {node['NodeManagerAddress']} has no GPU: leave it out of the cluster, or take "
                "--devices cpu"
            )
    shares = {node: Fraction(gpus[node], count) for node, count in actors.items()}
    return [_part(shares[node["NodeID"]]) for node in where]


def _part(share: Fraction) -> float:
    """Return a share of GPUs as Ray takes it: one, or that of many on one GPU, in ten thousandths."""
    return 1.0 if share >= 1 else 10_000 // ceil(1 / share) / 10_000


def _actor(node: dict[str, Any], gpu_share: float, deaths: Any) -> tuple[str, Any]:
    """Start an actor on ``node``, or elsewhere once that is gone; a task is tried by it and by its successors."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from cosp.simulation.ray_worker import RayWorker

    place = NodeAffinitySchedulingStrategy(node_id=node["NodeID"], soft=True)
    kind = ray.remote(RayWorker).options(
        num_cpus=0, num_gpus=gpu_share, max_restarts=-1, max_task_retries=-1, scheduling_strategy=place
    )
    return str(node["NodeManagerAddress"]), kind.remote("cuda" if gpu_share else "cpu", deaths)


def _look_over(actors: Sequence[tuple[str, Any]], data: Any) -> None:
    """UserError names the node whose software is not ours, or which does not see the data."""
    import ray
    from ray.exceptions import RayError

    from cosp.simulation.ray_worker import software

    ours = software()
    asked = [(where, actor.software.remote(), actor.missing.remote([data])) for where, actor in actors]
    for where, found, missing in asked:
        try:
            theirs, path = ray.get([found, missing])
        except RayError as error:
            raise UserError(f"node {where}: no worker starts there: {_last_line(error)}") from None
        for name, version in ours.items():
            if theirs[name] != version:
                raise UserError(
                    f"node {where}: has {name} {theirs[name]}, this machine {version}; rows are the same with the same "
                    "versions alone: install constraints.txt on both"
                )
        if path:
            raise UserError(
                f"node {where}: does not see {path}; put the data at a path that all nodes see, or leave data.stream "
                "out, and they travel"
            )


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1][:400]
