"""Boards whose budget changes in mid-run: the next plan follows, who can hold nothing sits out, nothing breaks."""

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
from cosp.run import serve as module
from cosp.run.directory import RunDirectory
from cosp.simulation.simulate import simulate

pytestmark = pytest.mark.integration

Rows = list[dict[str, Any]]

WHOLE = 4164
"""Parameters of the whole model; to train them takes 217 kB."""

BOARDS: list[dict[str, Any]] = [
    {"device": "jetson-nano", "link": "wifi", "keep": 0.7, "changes": [{"at_s": 0.03, "keep": 0.4}]},
    {"device": "jetson-nano", "link": "wifi",
     "changes": [{"at_s": 0.04, "memory_mib": 0.15}, {"at_s": 0.08, "memory_mib": 50}]},
    {"device": "jetson-orin-nano-8", "link": "wifi",
     "changes": [{"at_s": 0.025, "memory_mib": 0.01}, {"at_s": 0.06, "memory_mib": 50}]},
    {"device": "jetson-agx-orin-64", "link": "ethernet", "keep": 1.0, "changes": [{"at_s": 0.06, "mode": "15W"}]},
]  # fmt: skip

Start = Callable[..., tuple[Experiment, RunDirectory]]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    value = copy.deepcopy(TINY) | {"fleet": {"boards": BOARDS}}
    value["server"] |= {"versions": 16}
    path = tmp_path / "changing.yaml"
    path.write_text(yaml.safe_dump(value), encoding="utf-8")
    return path


@pytest.fixture
def start(config: Path, tmp_path: Path) -> Start:
    def make(out: str, *overrides: str) -> tuple[Experiment, RunDirectory]:
        chosen = load_config(config, overrides)
        return load_experiment(chosen), RunDirectory.create(tmp_path / out, chosen)

    return make


def of(rows: Rows, kind: str, client: int) -> Rows:
    return [row for row in rows if row["kind"] == kind and row["client"] == client]


def trained(rows: Rows, client: int) -> Rows:
    return [row for row in of(rows, "arrival", client) if row["task"] == "train" and row["accepted"]]


@pytest.fixture
def dry(start: Start) -> Callable[..., tuple[Rows, dict[str, Any]]]:
    def run(*overrides: str) -> tuple[Rows, dict[str, Any]]:
        experiment, directory = start("dry", *overrides)
        metrics = simulate(experiment, directory, workers=1, dry=True)
        return rows_of(directory.folder), metrics

    return run


def test_a_run_in_which_budgets_change_is_the_same_for_any_number_of_workers(start: Start):
    found = []
    for workers in (1, 2, 3):
        experiment, directory = start(f"workers{workers}")
        metrics = simulate(experiment, directory, workers=workers)
        found.append((directory.folder / "rows.jsonl").read_bytes())
    assert found[0] == found[1] == found[2]
    assert (metrics["rounds"], metrics["refused"], metrics["sitting_out"]) == (16, {}, [])
    assert {row["client"] for row in rows_of(directory.folder) if row["kind"] == "budget"} == {0, 1, 2, 3}


def test_what_is_in_flight_is_merged_and_the_next_plan_shrinks_and_grows_again(dry: Callable[..., Any]):
    rows, _ = dry()
    first, second = of(rows, "budget", 1)
    sizes = {"before": [], "between": [], "after": []}
    for row in trained(rows, 1):
        when = "before" if row["sent_s"] < first["virtual_s"] else "between"
        sizes["after" if row["sent_s"] >= second["virtual_s"] else when].append(row)
    assert {row["parameters"] for row in sizes["before"]} == {WHOLE}
    assert any(row["sent_s"] < 0.04 < row["arrived_s"] for row in sizes["before"])  # in flight at the change, merged
    assert sizes["between"]
    assert all(row["peak_memory_bytes"] <= 0.15 * 2**20 for row in sizes["between"])
    assert {row["parameters"] for row in sizes["after"]} == {WHOLE}
    assert [row["memory_bytes"] for row in (first, second)] == [int(0.15 * 2**20), 50 * 2**20]


def test_a_lower_keep_ratio_is_followed(dry: Callable[..., Any]):
    rows, _ = dry()
    (told,) = of(rows, "budget", 0)
    assert told["keep"] == 0.4
    before, after = ([r["parameters"] for r in trained(rows, 0) if (r["sent_s"] >= told["virtual_s"]) is late]
                     for late in (False, True))  # fmt: skip
    assert all(0.4 * WHOLE < size <= 0.7 * WHOLE for size in before)
    assert after
    assert all(size <= 0.4 * WHOLE for size in after)


def test_who_can_hold_nothing_sits_out_by_name_and_comes_back_when_it_can(dry: Callable[..., Any]):
    rows, _ = dry()
    out, back = of(rows, "budget", 2)
    assert out["sits_out"].startswith("client 2 (jetson-orin-nano-8, wifi): memory_bytes: 10.5 kB hold no submodel")
    assert back["sits_out"] is None
    assert back["virtual_s"] >= 0.06
    sent_s = [row["sent_s"] for row in of(rows, "arrival", 2)]
    assert not [s for s in sent_s if out["virtual_s"] <= s < back["virtual_s"]]
    assert [s for s in sent_s if s >= back["virtual_s"]]
    assert {row["accepted"] for row in of(rows, "arrival", 2)} == {True}


def test_another_power_mode_is_slower_and_draws_other_watts_from_the_next_task_on(dry: Callable[..., Any]):
    rows, _ = dry("jitter=0.0")
    early = [row for row in trained(rows, 3) if row["sent_s"] < 0.06]
    late = [row for row in trained(rows, 3) if row["sent_s"] >= 0.06]
    assert len({round(row["compute_s"], 9) for row in early}) == len({round(row["compute_s"], 9) for row in late}) == 1
    assert late[0]["compute_s"] > early[0]["compute_s"]
    watts = [row["energy_j"] / (row["arrived_s"] - row["sent_s"]) for row in (early[0], late[0])]
    assert watts[1] < watts[0]


@pytest.mark.parametrize("rule", ["time", "memory"])
def test_with_a_target_time_another_mode_is_another_submodel(dry: Callable[..., Any], rule: str):
    rows, _ = dry("jitter=0.0", f"assignment={{rule: {rule}, target_round_s: 0.014}}", "fleet.boards=" + yaml.safe_dump(
        [BOARDS[3], {"device": "jetson-agx-orin-64", "link": "ethernet"}], default_flow_style=True))  # fmt: skip
    (told,) = of(rows, "budget", 0)
    sizes = [{r["parameters"] for r in trained(rows, 0) if (r["sent_s"] >= told["virtual_s"]) is late}
             for late in (False, True)]  # fmt: skip
    assert max(sizes[1]) < min(sizes[0])
    late_s = [r["arrived_s"] - r["sent_s"] for r in trained(rows, 0) if r["sent_s"] >= told["virtual_s"]]
    assert max(late_s) <= 0.014


def test_a_board_refuses_what_it_held_before_and_is_then_sent_less(dry: Callable[..., Any]):
    """In synchronous rounds the fast board waits: the change comes while the server cannot know of it."""
    fast = {"device": "jetson-agx-orin-64", "link": "ethernet", "changes": [{"at_s": 0.02, "memory_mib": 0.15}]}
    boards = yaml.safe_dump([BOARDS[0], fast], default_flow_style=True)
    rows, metrics = dry("server.quorum=1.0", "fleet.boards=" + boards)
    (refused,) = [row for row in of(rows, "arrival", 1) if row["reason"] == "memory"]
    assert metrics["refused"] == {"memory": 1}
    assert refused["detail"] == "the board's memory no longer holds the task"
    assert refused["parameters"] == WHOLE
    assert (refused["compute_s"], refused["upload_s"], refused["bytes_up"]) == (0.0, 0.0, 0)
    assert refused["bytes_down"] > 2 * WHOLE  # halves, and the plan
    assert refused["energy_j"] > 0
    after = [row for row in trained(rows, 1) if row["sent_s"] > refused["arrived_s"]]
    assert after
    assert all(row["peak_memory_bytes"] <= 0.15 * 2**20 for row in after)


def test_a_method_that_minds_no_memory_loses_what_no_longer_fits_and_the_run_goes_on(dry: Callable[..., Any]):
    rows, metrics = dry("method={name: fedavg}")
    assert metrics["rounds"] == 16
    assert metrics["refused"]["memory"] > 1
    assert {row["reason"] for row in of(rows, "arrival", 1)} == {None, "memory"}
    assert [row for row in trained(rows, 1) if row["sent_s"] > 0.08]  # its memory is back


def test_a_run_in_which_all_sit_out_ends_early_and_says_so(dry: Callable[..., Any]):
    boards = [{**BOARDS[2], "changes": BOARDS[2]["changes"][:1]}] * 2
    rows, metrics = dry("fleet.boards=" + yaml.safe_dump(boards, default_flow_style=True))
    assert 0 < metrics["rounds"] < 16
    assert metrics["sitting_out"] == [0, 1]
    assert metrics["ended_early"].endswith("the fleet has stalled; 2 of 2 boards sit out")
    assert rows[-1]["reason"] == metrics["ended_early"]


GROWING: list[dict[str, Any]] = [
    {"device": "jetson-nano", "link": "wifi", "keep": keep, "changes": [{"at_s": 0.02, "keep": 1.0}]}
    for keep in (0.3, 0.5)
] + [BOARDS[0]]  # fmt: skip
"""Shallow at first, so that fewer blocks are scored than the whole model has."""


def test_a_board_whose_budget_grows_to_the_whole_model_holds_it_whatever_it_scored(start: Start, tmp_path: Path):
    fleet = "fleet.boards=" + yaml.safe_dump(GROWING, default_flow_style=True)
    experiment, whole = start("whole", fleet)
    metrics = simulate(experiment, whole, workers=0)
    rows = rows_of(whole.folder)
    assert metrics["refused"] == {}
    for client in (0, 1):
        (told,) = of(rows, "budget", client)
        assert told["keep"] == 1.0
        after = [row["parameters"] for row in trained(rows, client) if row["sent_s"] >= told["virtual_s"]]
        assert set(after) == {WHOLE}
    for version in (4, 8):  # and when it goes on from a checkpoint
        experiment, directory = start(f"stopped{version}", fleet, f"server.versions={version}")
        simulate(experiment, directory, workers=0)
        config = load_config(directory.folder / "config.yaml", ["server.versions=16"])
        simulate(load_experiment(config), RunDirectory.reopen(directory.folder), workers=0, resume=True)
        assert rows_of(directory.folder)[1:] == rows[1:]


def test_a_killed_run_resumes_to_the_same_rows(config: Path, start: Start, tmp_path: Path):
    whole, resumed = whole_and_resumed_rows(config, *start("whole"), tmp_path / "killed")
    assert resumed == whole


@pytest.mark.parametrize("timeout", ["null", "0.02"])
def test_from_every_checkpoint_a_run_goes_on_to_the_same_rows(
    start: Start, monkeypatch: pytest.MonkeyPatch, timeout: str
):
    """Dry, so that every version can be tried, among them those at which a board sits out."""
    timeout = f"server.task_timeout_s={timeout}"
    experiment, whole = start("whole", timeout)
    simulate(experiment, whole, workers=1, dry=True)
    rows = (whole.folder / "rows.jsonl").read_bytes()
    save = module.checkpoints.save
    for version in range(2, 16, 2):

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
