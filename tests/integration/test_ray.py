"""A run on Ray: same bytes on one node, on three, and after an actor or a node was killed. Real raylets, all here."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import psutil
import pytest
from tiny_runs import TOGETHER, rows_of

from cosp.errors import UserError
from cosp.experiment import Experiment
from cosp.run.directory import RunDirectory
from cosp.simulation.simulate import simulate

ray = pytest.importorskip("ray", reason="needs the extra 'ray': pip install 'cosp[ray]'")

pytestmark = [
    pytest.mark.ray,
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore:Tip. In future versions of Ray:FutureWarning"),
]

Start = Callable[..., tuple[Experiment, RunDirectory]]


@pytest.fixture(autouse=True)
def _nothing_of_ray_leaves_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")


@pytest.fixture
def cluster() -> Iterator[Any]:
    """Three raylets of one core each."""
    from ray.cluster_utils import Cluster

    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        for _ in range(2):
            found.add_node(num_cpus=1)
        yield found
    finally:
        found.shutdown()


@pytest.fixture
def inline(start: Start) -> bytes:
    """The rows of a run in one process."""
    experiment, directory = start(out="inline")
    simulate(experiment, directory, workers=0)
    return (directory.folder / "rows.jsonl").read_bytes()


def ray_workers() -> list[psutil.Process]:
    """Return the processes of actors that are at work or wait for it, by their title."""
    below = psutil.Process().children(recursive=True)
    return [process for process in below if "RayWorker" in " ".join(process.cmdline())]


class At:
    """Does ``what`` once, when the run has closed its second version."""

    def __init__(self, what: Callable[[], None]) -> None:
        self.what, self.done = what, False

    def __call__(self, row: dict[str, Any]) -> None:
        if row["kind"] == "round" and row["version"] == 2 and not self.done:
            self.done = True
            self.what()


def test_on_a_ray_of_its_own_a_run_has_the_same_rows_and_leaves_no_process(start: Start, inline: bytes):
    before = signal.getsignal(signal.SIGTERM)
    experiment, directory = start(out="ray")
    simulate(experiment, directory, workers=2, engine="ray", on_row=At(lambda: ray_workers()[0].kill()))
    assert (directory.folder / "rows.jsonl").read_bytes() == inline
    assert signal.getsignal(signal.SIGTERM) is before
    assert not ray.is_initialized()


def test_clients_that_train_together_have_the_same_rows_on_ray(start: Start):
    def rows(engine: Literal["inline", "ray"], together: int) -> bytes:
        experiment, directory = start(*TOGETHER, f"together={together}", out=f"{engine}-{together}")
        simulate(experiment, directory, workers=2 if engine == "ray" else 0, engine=engine)
        return (directory.folder / "rows.jsonl").read_bytes()

    inline = rows("inline", 4)
    assert rows("ray", 4) == inline
    assert rows("inline", 1) != inline  # so there were groups


def test_on_three_nodes_and_after_an_actor_and_a_node_were_killed_the_rows_are_the_same(
    start: Start, inline: bytes, cluster: Any
):
    experiment, directory = start(out="whole")
    simulate(experiment, directory, workers=None, engine="ray", address=cluster.address)
    assert (directory.folder / "rows.jsonl").read_bytes() == inline

    def kill_an_actor_and_a_node() -> None:
        assert len(ray_workers()) == 3
        ray_workers()[0].kill()
        cluster.remove_node(cluster.list_all_nodes()[-1], allow_graceful=False)

    experiment, directory = start(out="killed")
    at = At(kill_an_actor_and_a_node)
    simulate(experiment, directory, workers=None, engine="ray", address=cluster.address, on_row=at)
    assert at.done
    assert (directory.folder / "rows.jsonl").read_bytes() == inline


def test_a_run_begun_on_ray_is_resumed_by_local_workers(start: Start, inline: bytes):
    class Stop(Exception):
        pass

    def stop() -> None:
        raise Stop

    experiment, directory = start(out="ray")
    with pytest.raises(Stop):
        simulate(experiment, directory, workers=1, engine="ray", on_row=At(stop))
    simulate(experiment, RunDirectory(directory.folder), workers=1, resume=True)
    assert (directory.folder / "rows.jsonl").read_bytes() == inline


def test_a_task_that_kills_its_actors_is_lost_alone_and_the_next_plan_is_smaller(
    start: Start, monkeypatch: pytest.MonkeyPatch
):
    """Actors kill themselves over what client 3 cannot hold: more than half of the model."""
    from cosp.simulation import ray_worker
    from cosp.task.serial import task_from_json

    class Deadly(ray_worker.RayWorker):
        text = ""

        def run(self, text: str, *more: Any) -> Any:
            self.text = text
            return super().run(text, *more)

        def _open(self, data: Any) -> Any:
            task = task_from_json(self.text) if self.text else None
            if task and task.client == 3 and task.kind == "train" and task.keep > 0.5:
                os.kill(os.getpid(), signal.SIGKILL)
            return super()._open(data)

    monkeypatch.setattr(ray_worker, "RayWorker", Deadly)
    experiment, directory = start(out="run")
    metrics = simulate(experiment, directory, workers=2, engine="ray")
    assert metrics["refused"] == {"worker-died": 1}
    rows = rows_of(directory.folder)
    (lost,) = (row for row in rows if row.get("reason") == "worker-died")
    assert lost["client"] == 3
    assert lost["detail"].startswith("3 worker processes died over client 3: train at version ")
    assert next(row for row in rows if row["kind"] == "budget")["keep"] == 0.5


def test_a_cluster_that_is_not_there_is_refused_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    from cosp.simulation.ray_cluster import _connected

    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))  # where Ray looks for what runs on this machine
    with socket.socket() as taken:  # bound, so that nobody else listens there; and not listening
        taken.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        for address in (place, f"ray://{place}"):
            with pytest.raises(UserError, match=f"--address {address}: no Ray cluster answers"), _connected(address, 1):
                pass
    with pytest.raises(UserError, match="--address auto: no Ray cluster runs there"), _connected("auto", 1):
        pass


def test_nodes_of_other_software_or_without_the_data_are_named(monkeypatch: pytest.MonkeyPatch):
    from cosp.simulation import ray_cluster, ray_worker

    def asked(missing: str) -> list[tuple[str, Any]]:
        class Node:
            def software(self) -> dict[str, str]:
                return ray_worker.software()

            def missing(self, data: Any) -> str:
                return missing

        return [("10.0.0.7", ray.remote(Node).options(num_cpus=0).remote())]

    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        with pytest.raises(UserError, match=r"node 10\.0\.0\.7: does not see /data/a\.png"):
            ray_cluster._look_over(asked("/data/a.png"), None)
        ours = ray_worker.software()
        monkeypatch.setattr(ray_worker, "software", lambda: {**ours, "torch": "9.9"})
        with pytest.raises(UserError, match=r"node 10\.0\.0\.7: has torch \d.*, this machine 9\.9"):
            ray_cluster._look_over(asked(""), None)
    finally:
        ray.shutdown()
