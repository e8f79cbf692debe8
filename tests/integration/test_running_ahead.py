"""How far workers run ahead of virtual time is bounded, and changes no byte."""

from __future__ import annotations

import pytest

from cosp.simulation import pool as pools
from cosp.simulation.pool import Job, WorkerPool
from cosp.simulation.simulate import simulate

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("workers", [1, 2])
def test_results_that_wait_hold_at_most_the_room_and_change_no_byte(start, workers, monkeypatch):
    experiment, free = start(out="free")
    simulate(experiment, free, workers=workers)
    held: list[int] = []
    collect = WorkerPool._collect

    def count(pool: WorkerPool, *, block: bool, wanted: Job | None = None) -> None:
        collect(pool, block=block, wanted=wanted)
        held.append(sum(job.brings for job in pool._begun if job is not wanted))
        assert held[-1] <= pool._room

    monkeypatch.setattr(WorkerPool, "_collect", count)
    monkeypatch.setattr(pools, "AHEAD_FLOATS", 0)
    experiment, bounded = start(out="bounded")
    simulate(experiment, bounded, workers=workers)
    assert max(held) > 0
    assert (bounded.folder / "rows.jsonl").read_bytes() == (free.folder / "rows.jsonl").read_bytes()
