"""What can be said of a Ray cluster without one: where actors go, which addresses are none."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from typer.testing import CliRunner

from cosp.cli.main import app
from cosp.errors import UserError
from cosp.simulation import ray_cluster


def node(name: str, cores: float) -> dict[str, Any]:
    return {"NodeID": name, "Resources": {"CPU": cores}}


def names(places: list[dict[str, Any]]) -> str:
    return "".join(place["NodeID"] for place in places)


def test_there_is_an_actor_a_core_and_the_nodes_take_turns() -> None:
    nodes = [node("b", 1.0), node("a", 3.0), {"NodeID": "head", "Resources": {}}]
    assert names(ray_cluster._places(nodes, None)) == "abaa"
    assert names(ray_cluster._places(nodes, 2)) == "ab"
    assert names(ray_cluster._places(nodes, 6)) == "abaaab"


def test_a_cluster_without_cores_is_refused() -> None:
    with pytest.raises(UserError, match="no node of the cluster has a CPU"):
        ray_cluster._places([node("a", 0.0)], 2)


def with_gpus(name: str, cores: int, gpus: int) -> dict[str, Any]:
    return {"NodeID": name, "NodeManagerAddress": f"10.0.0.{name}", "Resources": {"CPU": cores, "GPU": gpus}}


def shares(*nodes: dict[str, Any], devices: str | None = "cuda", workers: int | None = None) -> list[float]:
    return ray_cluster._gpu_shares(nodes, ray_cluster._places(nodes, workers), devices)


def test_actors_of_a_node_share_its_gpus_evenly() -> None:
    assert shares(with_gpus("1", 4, 1)) == [0.25] * 4
    assert shares(with_gpus("1", 3, 2)) == [0.5] * 3
    assert shares(with_gpus("1", 6, 1)) == [0.1666] * 6  # never more than one together
    assert shares(with_gpus("1", 2, 4)) == [1.0] * 2
    assert shares(with_gpus("1", 2, 1), with_gpus("2", 2, 2)) == [0.5, 1.0, 0.5, 1.0]


def test_gpus_are_taken_where_every_node_has_one_or_where_they_are_asked_for() -> None:
    mixed = with_gpus("1", 1, 1), with_gpus("2", 1, 0)
    assert shares(with_gpus("1", 2, 2), devices=None) == [1.0, 1.0]
    assert shares(with_gpus("1", 2, 2), devices="cpu") == [0.0, 0.0]
    assert shares(*mixed, devices=None) == [0.0, 0.0]
    assert shares(*mixed, workers=1) == [1.0]  # the other node has no actor
    with pytest.raises(UserError, match=r"--devices cuda: node 10\.0\.0\.2 has no GPU"):
        shares(*mixed)
    with pytest.raises(UserError, match=r"--devices cuda:0: on Ray it must be cpu or cuda"):
        shares(*mixed, devices="cuda:0")


@pytest.mark.parametrize("address", ["here", "ray://", "host:port", ":", "127.0.0.1:", "http://127.0.0.1:6379"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(UserError, match="must be auto, ray://HOST:PORT or HOST:PORT"):
        ray_cluster._reach(address)


def test_ray_that_is_not_installed_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    nothing: Any = None
    with (
        pytest.raises(UserError, match=r"--engine ray: Ray is not installed: pip install 'cosp\[ray\]'"),
        ray_cluster.ray_pool(nothing, workers=1, address=None, devices=None, own_cores=1),
    ):
        pass


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--address", "auto"], "--address auto: is of a Ray cluster: add --engine ray"),
        (["--engine", "inline", "--workers", "2"], "--workers 2: --engine inline has none"),
    ],
)
def test_options_that_make_each_other_void_are_refused(words: list[str], said: str) -> None:
    found = CliRunner().invoke(app, ["run", "experiments/quickstart.yaml", *words])
    assert isinstance(found.exception, UserError)
    assert str(found.exception).startswith(said)
