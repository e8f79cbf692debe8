"""Runs that end at a virtual time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cosp.run import checkpoint
from cosp.simulation.simulate import simulate

pytestmark = pytest.mark.integration

Row = dict[str, Any]
UNTIL = ("server.versions=null", "server.until_s=0.4", "server.evaluate_every_s=0.15", "server.quorum=1")


def rounds_of(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row["kind"] == "round"]


def test_a_run_ends_with_the_last_version_that_closes_by_then(run: Callable[..., list[Row]]):
    shorter, longer = rounds_of(run(*UNTIL)), rounds_of(run(*UNTIL, "server.until_s=0.8", out="longer"))
    *closed, end = shorter
    assert (end["closed_by"], end["virtual_s"], end["version"]) == ("end", 0.4, closed[-1]["version"])
    assert [row["version"] for row in closed] == [row["version"] for row in longer if row["virtual_s"] <= 0.4]


def test_the_first_version_at_or_after_each_multiple_is_evaluated_and_the_end(run: Callable[..., list[Row]]):
    *closed, end = rounds_of(run(*UNTIL))
    times = [row["virtual_s"] for row in closed]
    first = [min(t for t in times if t >= k * 0.15) for k in range(3)]
    assert len(times) > len(first) + 2
    assert [row["virtual_s"] for row in closed if row["evaluation"]] == first
    assert end["evaluation"]


def test_a_version_that_closes_at_that_very_time_counts(run: Callable[..., list[Row]]):
    third = rounds_of(run(*UNTIL))[3]
    *_, last, end = rounds_of(run(*UNTIL, f"server.until_s={third['virtual_s']}", out="exact"))
    assert (last["version"], end["version"], end["virtual_s"]) == (3, 3, third["virtual_s"])


def test_versions_and_time_end_a_run_whichever_is_first(run: Callable[..., list[Row]]):
    last = rounds_of(run(*UNTIL, "server.versions=2"))[-1]
    assert (last["version"], last["closed_by"]) == (2, "quorum")
    assert last["evaluation"]


def test_more_workers_or_a_resumed_run_give_the_same_bytes(start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch):
    def rows(out: str, workers: int) -> bytes:
        experiment, directory = start(*UNTIL, "server.checkpoint_every=3", out=out)
        simulate(experiment, directory, workers=workers)
        return (directory.folder / "rows.jsonl").read_bytes()

    whole = rows("one", 1)
    assert rows("three", 3) == whole
    save = checkpoint.save

    def save_and_stop(*arguments: Any, **named: Any) -> None:
        save(*arguments, **named)
        raise KeyboardInterrupt

    experiment, directory = start(*UNTIL, "server.checkpoint_every=3", out="stopped")
    monkeypatch.setattr("cosp.run.checkpoint.save", save_and_stop)
    with pytest.raises(KeyboardInterrupt):
        simulate(experiment, directory, workers=1)
    monkeypatch.undo()
    simulate(experiment, directory, workers=1, resume=True)
    assert (directory.folder / "rows.jsonl").read_bytes() == whole
