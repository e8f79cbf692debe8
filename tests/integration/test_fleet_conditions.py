"""Runs with all on that can happen to a fleet: shared link, boards off, heat, energy caps, dropout, drawn links."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_runs import TINY, rows_of, whole_and_resumed_rows

from cosp.config import load_config
from cosp.experiment import Experiment, load_experiment
from cosp.run.directory import RunDirectory
from cosp.simulation.simulate import simulate

pytestmark = pytest.mark.integration

Rows = list[dict[str, Any]]

FLEET: dict[str, Any] = {
    "seed": 5,
    "server": {"send_mbit_s": 20, "receive_mbit_s": 2},
    "links": {"radio": {"downlink_mbit_s": 20, "uplink_mbit_s": 2, "uplink_sigma": 0.9, "latency_ms": 2}},
    "boards": [
        {"count": 2, "device": "jetson-nano", "link": "radio", "keep": 0.5, "dropout": 0.1,
         "availability": {"trace": {"path": "trace.csv", "period_s": 1.0}}},
        {"device": "jetson-orin-nano-8", "link": "radio", "keep": 0.7, "battery_j": 3.0,
         "throttle": {"after_s": 0.05, "slowdown": 3.0, "recover_s": 0.4}},
        {"device": "jetson-agx-orin-64", "link": "ethernet", "keep": 1.0,
         "throttle": {"after_s": 0.05, "slowdown": 1.5, "recover_s": 0.2}},
    ],
    "generate": {"count": 2, "mix": [{"weight": 1, "device": "jetson-tx2", "link": "radio", "keep": 0.3,
                                      "availability": {"diurnal": {"on_h": 12, "start_h": 0}}},
                                     {"weight": 2, "device": "phone-high", "link": "wifi-flash", "keep": 0.3}]},
}  # fmt: skip
WINDOWS = {0: ((0.0, 0.35), (0.5, 0.9)), 1: ((0.15, 0.8),)}
"""Of clients 0 and 1, in every second."""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    lines = [f"{client},{start},{end}" for client, windows in WINDOWS.items() for start, end in windows]
    (tmp_path / "trace.csv").write_text("\n".join(["client,start_s,end_s", *lines, ""]), encoding="utf-8")
    (tmp_path / "fleet.yaml").write_text(yaml.safe_dump(FLEET), encoding="utf-8")
    value = copy.deepcopy(TINY) | {"fleet": str(tmp_path / "fleet.yaml")}
    value["server"] |= {"versions": 30}
    path = tmp_path / "stormy.yaml"
    path.write_text(yaml.safe_dump(value), encoding="utf-8")
    return path


@pytest.fixture
def start(config: Path, tmp_path: Path) -> Callable[..., tuple[Experiment, RunDirectory]]:
    def make(out: str, *overrides: str) -> tuple[Experiment, RunDirectory]:
        chosen = load_config(config, overrides)
        return load_experiment(chosen), RunDirectory.create(tmp_path / out, chosen)

    return make


def arrivals(rows: Rows) -> Rows:
    return [row for row in rows if row["kind"] == "arrival"]


def is_on(client: int, time_s: float) -> bool:
    within = time_s % 1.0
    return client not in WINDOWS or any(a - 1e-9 <= within <= b + 1e-9 for a, b in WINDOWS[client])


def test_what_happens_is_named_counted_and_the_same_for_any_number_of_workers(start: Callable[..., Any]):
    found = {}
    for workers in (1, 2, 3):
        experiment, directory = start(f"workers{workers}")
        metrics = simulate(experiment, directory, workers=workers)
        found[workers] = (directory.folder / "rows.jsonl").read_bytes()
    assert found[1] == found[2] == found[3]

    rows = rows_of(directory.folder)
    lost = [row for row in arrivals(rows) if row["reason"] in ("off", "battery", "dropout")]
    assert {row["reason"] for row in lost} >= {"off", "battery"}
    assert metrics["refused"] == {
        reason: sum(row["reason"] == reason for row in lost) for reason in {row["reason"] for row in lost}
    }
    assert metrics["empty_batteries"] == [2]
    assert (metrics["rounds"], metrics["ended_early"]) == (30, None)
    for row in arrivals(rows):
        assert is_on(row["client"], row["sent_s"])  # nobody is sent a task while off
        spans = row["download_s"] + row["compute_s"] + row["upload_s"]
        assert row["sent_s"] + spans == pytest.approx(row["arrived_s"])
    for row in lost:
        assert row["energy_j"] > 0
    back = [row for row in arrivals(rows) if row["client"] in (0, 1) and row["accepted"] and row["sent_s"] >= 0.5]
    assert back  # who went off comes back


def test_energy_of_the_fleet_is_the_tasks_and_the_waiting_of_boards_that_are_on(start: Callable[..., Any]):
    experiment, directory = start("energy")
    metrics = simulate(experiment, directory, workers=2)
    spent = sum(row["energy_j"] for row in arrivals(rows_of(directory.folder)) if row["client"] == 2)
    assert spent <= 4.0
    always_on = sum(board.profile.idle_w for board in experiment.boards) * metrics["virtual_time_s"]
    assert metrics["energy_j"] < always_on + sum(r["energy_j"] for r in arrivals(rows_of(directory.folder)))


def test_a_killed_run_resumes_to_the_same_rows(config: Path, start: Callable[..., Any], tmp_path: Path):
    whole, resumed = whole_and_resumed_rows(config, *start("whole"), tmp_path / "killed")
    assert resumed == whole


@pytest.mark.parametrize("timeout", ["null", "0.2"])
def test_from_every_checkpoint_a_run_goes_on_to_the_same_rows(
    start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, timeout: str
):
    """Dry, so that every version can be tried; with a timeout, boards work on at what the server has given up."""
    timeout = f"server.task_timeout_s={timeout}"
    from cosp.run import serve as module

    experiment, whole = start("whole", timeout)
    simulate(experiment, whole, workers=1, dry=True)
    rows = (whole.folder / "rows.jsonl").read_bytes()
    save = module.checkpoints.save
    for version in (2, 4, 6, 8, 10):

        def save_once(folder: Path, loop: Any, *rest: Any, version: int = version, **named: Any) -> None:
            save(folder, loop, *rest, **named)
            if loop.coordinator.version == version:
                raise KeyboardInterrupt

        experiment, directory = start(f"stopped{version}", timeout)
        monkeypatch.setattr(module.checkpoints, "save", save_once)
        with pytest.raises(KeyboardInterrupt):
            simulate(experiment, directory, workers=1, dry=True)
        monkeypatch.setattr(module.checkpoints, "save", save)
        simulate(experiment, directory, workers=1, dry=True, resume=True)
        assert (directory.folder / "rows.jsonl").read_bytes() == rows


def test_a_run_whose_boards_have_no_energy_left_ends_early_and_says_so(config: Path, tmp_path: Path):
    boards = [{**board, "battery_j": 1.5} for board in TINY["fleet"]["boards"]]
    fleet = "fleet=" + yaml.safe_dump({"boards": boards}, default_flow_style=True)
    chosen = load_config(config, [fleet, "server.versions=1000"])
    directory = RunDirectory.create(tmp_path / "empty", chosen)
    metrics = simulate(load_experiment(chosen), directory, workers=1, dry=True)
    last = rows_of(directory.folder)[-1]
    assert 0 < metrics["rounds"] < 1000
    assert metrics["empty_batteries"] == [0, 1, 2, 3]
    assert (last["kind"], last["reason"]) == ("end", metrics["ended_early"])
    assert "4 of 4 boards have used up their energy" in metrics["ended_early"]
    assert metrics["energy_j"] == pytest.approx(4 * 1.5)
