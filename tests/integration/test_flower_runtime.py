"""``flwr run`` for real: Flower's SuperLink, its simulation with Ray, the app folder. Needs no network."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import yaml

pytestmark = [
    pytest.mark.flower,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is missing: install cosp[flower]"),
]

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 240

CONFIG = {
    "name": "tiny",
    "data": {"name": "digits", "train": 400, "validation": 100, "test": 200, "partition": {"kind": "iid"}},
    "fleet": {"boards": [{"count": 4, "device": "jetson-orin-nano-8", "link": "ethernet", "keep": 0.5}]},
    "model": {"patch": 4, "dim": 16, "blocks": 2, "heads": 2, "hidden": 32, "exits": [1, 2]},
    "method": {"name": "co-s2p", "depth_share": 0.0},  # so that width is pruned and units are scored
    "training": {"epochs": 2, "batch_size": 16},
    "server": {"versions": 3, "quorum": 0.5},
}


@dataclass(frozen=True)
class Ended:
    """What ``flwr run`` left: the run directory of one that went well, and Flower's word on three, newest last."""

    folder: Path
    said: list[str]
    statuses: list[tuple[str, str]]


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """Three runs: one that goes well, one whose configuration is wrong, one whose clients cannot take part."""
    folder = tmp_path_factory.mktemp("flwr")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(CONFIG), encoding="utf-8")
    with superlink_stopped(folder / "home"):
        said = [
            flwr_run(folder, "run", "seed=1 server.versions=2"),
            flwr_run(folder, "wrong", "model.dims=7"),
            flwr_run(folder, "more", "fleet=uniform16"),
        ]
        assert (folder / "run" / "metrics.json").exists(), said[0]
        runs = json.loads(flwr(folder, "list", "--format", "json").stdout)["runs"]
    runs.sort(key=lambda run: str(run["pending-at"]))
    return Ended(folder / "run", said, [(run["status"], run.get("status-details", "")) for run in runs])


@pytest.fixture(scope="module")
def run_folder(ended: Ended) -> Path:
    """The run directory that ``flwr run`` left."""
    return ended.folder


def flwr_run(folder: Path, out: str, sets: str) -> str:
    """Run the app on ``folder/tiny.yaml`` and return what was said."""
    done = flwr(
        folder, "run", str(ROOT / "flower"), "--stream",
        "--run-config", f'config="{folder / "tiny.yaml"}" out="{folder / out}" set="{sets}"',
        "--federation-config", "num-supernodes=4 client-resources-num-cpus=1 init-args-num-cpus=2",
    )  # fmt: skip
    return f"{done.stdout}\n{done.stderr}"


PORTS: dict[Path, list[str]] = {}


def flwr(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run Flower's command with its home and its SuperLink in ``folder``."""
    binaries = Path(sys.executable).parent
    superlink_port, control_port = PORTS.setdefault(folder, free_ports(2))
    environment = os.environ | {
        "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "FLWR_HOME": str(folder / "home"),
        "FLWR_LOCAL_SUPERLINK_HTTP_API_PORT": superlink_port,
        "FLWR_LOCAL_CONTROL_API_PORT": control_port,
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "UV_OFFLINE": "1",
    }
    command = [str(binaries / "flwr"), *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)


@contextmanager
def superlink_stopped(flwr_home: Path) -> Iterator[None]:
    """Stop on the way out the SuperLink that ``flwr run`` detaches, found by its home, and what it started."""
    try:
        yield
    finally:
        ours = [
            process
            for process in psutil.process_iter(["cmdline"])
            if any(str(flwr_home) in word for word in process.info["cmdline"] or ())
        ]
        ours += [child for process in ours for child in children_of(process)]
        for process in ours:
            stop(process)
        for process in psutil.wait_procs(ours, timeout=10)[1]:
            stop(process, by_force=True)


def children_of(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def stop(process: psutil.Process, *, by_force: bool = False) -> None:
    with suppress(psutil.NoSuchProcess):
        process.kill() if by_force else process.terminate()


def free_ports(count: int) -> list[str]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [str(server.getsockname()[1]) for server in sockets]
    for server in sockets:
        server.close()
    return ports


def test_every_version_was_made_and_judged(run_folder):
    rows = [json.loads(line) for line in (run_folder / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
    rounds = [row for row in rows if row["kind"] == "round"]
    assert [row["version"] for row in rounds] == [0, 1, 2]
    for row in rounds:
        figures = row["evaluation"]["accuracy"] + row["evaluation"]["loss"]
        assert len(figures) == 4
        assert all(math.isfinite(figure) for figure in figures)
        assert row["evaluation"]["accuracy"][-1] > 0
    assert rounds[2]["evaluation"]["loss"][-1] < rounds[0]["evaluation"]["loss"][-1]


def test_the_rows_name_every_client_and_refuse_nobody(run_folder):
    rows = [json.loads(line) for line in (run_folder / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
    arrivals = [row for row in rows if row["kind"] == "arrival"]
    assert [row["client"] for row in rows if row["kind"] == "client"] == [0, 1, 2, 3]
    assert {row["task"] for row in arrivals} == {"score", "train"}
    assert all(row["accepted"] for row in arrivals)
    assert all(row["compute_s"] > 0 and row["energy_j"] == 0 for row in arrivals)


def test_metrics_and_config_are_there(run_folder):
    metrics = json.loads((run_folder / "metrics.json").read_text(encoding="utf-8"))
    config = yaml.safe_load((run_folder / "config.yaml").read_text(encoding="utf-8"))
    assert metrics["rounds"] == 2
    assert 0 < metrics["final"]["global"]["accuracy"][-1] <= 1
    assert 0 < metrics["virtual_time_s"] <= metrics["wall_time_s"]
    assert metrics["refused"] == {}
    assert (config["seed"], config["server"]["versions"]) == (1, 2)


def test_the_superlink_is_gone(run_folder):
    home = str(run_folder.parent / "home")
    assert not [p for p in psutil.process_iter(["cmdline"]) if any(home in word for word in p.info["cmdline"] or ())]


def test_a_run_that_cannot_go_on_is_marked_failed_and_says_why(ended: Ended):
    assert [status for status, _ in ended.statuses] == ["finished:completed", "finished:failed", "finished:failed"]
    assert "model: unknown key 'dims'" in ended.statuses[1][1]
    assert "num-supernodes=16" in ended.statuses[2][1]
    assert not (ended.folder.parent / "wrong" / "metrics.json").exists()
    assert not (ended.folder.parent / "more" / "metrics.json").exists()
