"""Worker processes that really die: the run goes on, and its rows are the same bytes."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import rows_of

from cosp.errors import CospError
from cosp.experiment import Experiment
from cosp.run.directory import RunDirectory
from cosp.run.pool import TaskKilled
from cosp.simulation import pool as pools
from cosp.simulation.pool import Job, WorkerPool
from cosp.simulation.simulate import simulate
from cosp.task.task import Task
from cosp.trainer.store import write_store

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore:a worker process died:UserWarning")]

Start = Callable[..., tuple[Experiment, RunDirectory]]
Deadly = Callable[[Task], signal.Signals | None]


@pytest.fixture
def strike(monkeypatch: pytest.MonkeyPatch) -> Callable[[Deadly], None]:
    """Return a function after which workers get a signal as soon as they are given certain tasks, and no others."""
    monkeypatch.setattr(pools, "SLOTS", 1)
    start = pools._Worker.start

    def by(deadly: Deadly) -> None:
        def start_and_strike(worker: Any, slot: int, job: Job) -> None:
            number = deadly(job.task)
            while number and not worker.ready:
                worker.collect()
            start(worker, slot, job)
            if number:
                os.kill(worker.process.pid, number)

        monkeypatch.setattr(pools._Worker, "start", start_and_strike)

    return by


def every_second_once() -> tuple[Deadly, list[Task]]:
    """Return what is deadly the first time, of every second task, by three kinds of death; and the tasks struck."""
    kinds = (signal.SIGKILL, signal.SIGSEGV, signal.SIGBUS)
    seen: list[Task] = []
    struck: list[Task] = []

    def deadly(task: Task) -> signal.Signals | None:
        if any(task is one for one in seen):  # it is done again
            return None
        seen.append(task)
        if len(seen) % 2:
            return None
        struck.append(task)
        return kinds[len(struck) % 3]

    return deadly, struck


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_that_are_killed_change_no_byte(start: Start, strike: Callable[[Deadly], None], workers: int):
    experiment, undisturbed = start(out="undisturbed")
    simulate(experiment, undisturbed, workers=workers)
    deadly, struck = every_second_once()
    strike(deadly)
    experiment, disturbed = start(out="disturbed")
    simulate(experiment, disturbed, workers=workers)
    assert {task.kind for task in struck} == {"train", "score", "evaluate"}
    assert len(struck) > 6
    ours, theirs = ((run.folder / "rows.jsonl").read_bytes() for run in (disturbed, undisturbed))
    assert ours == theirs


def test_a_task_that_kills_three_workers_is_lost_alone_and_the_next_plan_is_smaller(
    start: Start, strike: Callable[[Deadly], None]
):
    """Client 3 holds the whole model; what is larger than its half kills whoever trains it."""
    tried: Counter[int] = Counter()

    def deadly(task: Task) -> signal.Signals | None:
        if task.client != 3 or task.kind != "train" or task.keep <= 0.5:
            return None
        tried[task.version] += 1
        return signal.SIGKILL

    strike(deadly)
    found = {}
    for workers in (1, 2):
        tried.clear()
        experiment, directory = start(out=f"workers{workers}")
        metrics = simulate(experiment, directory, workers=workers)
        assert set(tried.values()) == {3}
        assert metrics["refused"] == {"worker-died": len(tried)}
        found[workers] = (directory.folder / "rows.jsonl").read_bytes()
    assert found[1] == found[2]

    rows = rows_of(directory.folder)
    lost = [row for row in rows if row.get("reason") == "worker-died"]
    assert [row["client"] for row in lost] == [3]
    assert lost[0]["detail"].startswith("3 worker processes died over client 3: train at version ")
    assert lost[0]["detail"].endswith("2 blocks 2/16/16/16, the last by SIGKILL")
    budget = next(row for row in rows if row["kind"] == "budget")
    assert (budget["client"], budget["keep"], budget["memory_bytes"]) == (3, 0.5, lost[0]["peak_memory_bytes"] // 2)
    later = [row for row in rows if row["kind"] == "arrival" and row["client"] == 3 and row["accepted"]
             and row["task"] == "train"]  # fmt: skip
    assert later
    assert all(row["parameters"] < lost[0]["parameters"] for row in later)
    others = [row for row in rows if row["kind"] == "arrival" and row["client"] != 3]
    assert all(row["accepted"] for row in others)


def test_a_run_killed_after_a_lost_task_resumes_to_the_same_rows(start: Start, strike: Callable[[Deadly], None]):
    strike(lambda task: signal.SIGKILL if task.client == 3 and task.kind == "train" and task.keep > 0.5 else None)
    experiment, whole = start(out="whole")
    simulate(experiment, whole, workers=1)

    class Stop(Exception):
        pass

    def stop(row: dict[str, Any]) -> None:
        if row["kind"] == "round" and row["version"] == 5:
            raise Stop

    experiment, broken = start(out="broken")
    with pytest.raises(Stop):
        simulate(experiment, broken, workers=1, on_row=stop)
    simulate(experiment, broken, workers=2, resume=True)
    ours, theirs = ((run.folder / "rows.jsonl").read_bytes() for run in (broken, whole))
    assert ours == theirs


@pytest.fixture
def store(start: Start, tmp_path: Path) -> Path:
    experiment, _ = start()
    folder = tmp_path / "store"
    folder.mkdir()
    write_store(folder, experiment.splits, experiment.rows)
    return folder


def judging(experiment: Experiment) -> tuple[Task, int]:
    plan = experiment.shape.full_plan()
    task = Task("evaluate", -1, 0, 0, 0, experiment.shape, plan, split="test", first=0, last=50)
    return task, task.parameters


def test_a_worker_killed_while_it_waits_is_nobody_s_fault(start: Start, store: Path):
    task, floats = judging(start(out="other")[0])
    with WorkerPool(["cpu"], slot_floats=floats, store=store) as pool:
        first = pool.result(pool.submit(task, floats, lambda slot: slot.fill_(0.1), priority=0.0))
        for _ in range(5):
            worker = pool._workers[0]
            worker.process.kill()
            worker.process.join()
            again = pool.result(pool.submit(task, floats, lambda slot: slot.fill_(0.1), priority=0.0))
            assert again[1].equal(first[1])


def test_a_judging_that_kills_three_workers_names_itself(start: Start, store: Path, strike: Callable[[Deadly], None]):
    task, floats = judging(start(out="other")[0])
    strike(lambda task: signal.SIGKILL)
    with (
        WorkerPool(["cpu"], slot_floats=floats, store=store) as pool,
        pytest.raises(TaskKilled, match="evaluate test at"),
    ):
        pool.result(pool.submit(task, floats, lambda slot: None, priority=0.0))


def test_a_worker_that_cannot_open_the_data_says_why(start: Start, store: Path):
    (store / "y_train.npy").unlink()
    task, floats = judging(start(out="other")[0])
    with (
        WorkerPool(["cpu"] * 2, slot_floats=floats, store=store) as pool,
        pytest.raises(CospError, match="y_train.npy: is miss"),
    ):
        pool.result(pool.submit(task, floats, lambda slot: None, priority=0.0))


def test_workers_that_die_as_they_start_end_the_run(start: Start, store: Path, monkeypatch: pytest.MonkeyPatch):
    task, floats = judging(start(out="other")[0])
    start_worker = pools._Worker.__init__

    def start_and_kill(worker: Any, *arguments: Any) -> None:
        start_worker(worker, *arguments)
        worker.process.kill()

    monkeypatch.setattr(pools._Worker, "__init__", start_and_kill)
    with (
        WorkerPool(["cpu"] * 2, slot_floats=floats, store=store) as pool,
        pytest.raises(CospError, match="3 worker processes died as they started, the last by SIGKILL"),
    ):
        pool.result(pool.submit(task, floats, lambda slot: None, priority=0.0))
