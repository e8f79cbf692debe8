"""Which tasks are trained together follows from their order alone, and is the same in a run that goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from small_models import SMALL, random_state
from torch import Tensor

from cosp.run.pool import Source, TaskFailed, TaskKilled
from cosp.simulation.together import Together
from cosp.task.cut import weights_of
from cosp.task.task import Task

MODEL = random_state(SMALL)


class Recording:
    """A ``Pool`` whose results are the weights, twice; ``dies`` are clients over which workers die."""

    def __init__(self, dies: tuple[int, ...] = (), fails: tuple[int, ...] = ()) -> None:
        self.groups: list[list[int]] = []
        self.cancelled: list[list[int]] = []
        self._dies, self._fails = dies, fails

    def submit(
        self, task: Task, floats: int, fill: Callable[[Tensor], None], *, priority: float, source: Source = None
    ) -> Any:
        self.groups.append([one.client for one in task.each])
        return task, floats, fill

    def result(self, job: Any) -> tuple[dict[str, Any], Tensor]:
        task, floats, fill = job
        if any(one.client in self._dies for one in task.each):
            raise TaskKilled(task, "by SIGKILL")
        vector = torch.empty(floats)
        fill(vector)
        if not task.beside:
            return {"client": task.client}, 2 * vector
        each = [{"failed": "a trace"} if one.client in self._fails else {"client": one.client} for one in task.each]
        return {"each": each}, 2 * vector

    def cancel(self, job: Any) -> None:
        self.cancelled.append([one.client for one in job[0].each])


def task_of(client: int, **settings: Any) -> Task:
    return replace(Task("train", client, 1, 0, 0, SMALL, SMALL.full_plan()), **settings)


def submit(pool: Together, client: int, source: Source = MODEL, **settings: Any) -> Any:
    task = task_of(client, **settings)
    return pool.submit(task, task.parameters, lambda slot: None, priority=float(client), source=source)


def submitted(pool: Together, *clients: int) -> list[Any]:
    return [submit(pool, client) for client in clients]


def test_as_many_as_are_wanted_are_a_group_and_the_rest_is_one_as_the_first_is_due():
    inner = Recording()
    pool = Together(inner, 3)
    jobs = submitted(pool, 0, 1, 2, 3, 4)
    assert inner.groups == [[0, 1, 2]]
    found = [pool.result(job) for job in jobs]
    assert inner.groups == [[0, 1, 2], [3, 4]]
    assert [facts["client"] for facts, _ in found] == [0, 1, 2, 3, 4]
    whole = 2 * weights_of(task_of(0), MODEL)
    assert all(torch.equal(vector, whole) for _, vector in found)
    assert pool.state() == []


def test_who_comes_after_the_first_is_due_is_of_another_group():
    inner = Recording()
    pool = Together(inner, 3)
    pool.result(submit(pool, 0))
    pool.result(submit(pool, 1))
    assert inner.groups == [[0], [1]]


def test_only_tasks_of_one_form_and_version_are_together():
    inner = Recording()
    pool = Together(inner, 4)
    other = random_state(SMALL, 1)
    jobs = [
        submit(pool, 0),
        submit(pool, 1, balanced=True),
        submit(pool, 2, version=2, source=other),
        submit(pool, 3, kind="score"),
        submit(pool, 4, source=None),
        submit(pool, 5),
    ]
    assert inner.groups == [[3], [4]]  # no training, or nothing to cut from: each by itself
    for job in jobs:
        pool.result(job)
    assert inner.groups == [[3], [4], [0, 5], [1], [2]]


def test_with_one_each_is_by_itself():
    inner = Recording()
    pool = Together(inner, 1)
    submitted(pool, 0, 1)
    assert inner.groups == [[0], [1]]


def test_a_group_is_cancelled_when_nobody_waits_for_any_of_it():
    inner = Recording()
    pool = Together(inner, 2)
    first, second = submitted(pool, 0, 1)
    pool.cancel(first)
    assert inner.cancelled == []
    pool.cancel(second)
    assert inner.cancelled == [[0, 1]]
    assert pool.state() == []


def test_where_workers_die_over_a_group_each_of_it_is_done_alone():
    inner = Recording(dies=(1,))
    pool = Together(inner, 3)
    jobs = submitted(pool, 0, 1, 2)
    assert pool.result(jobs[0])[0] == {"client": 0}
    with pytest.raises(TaskKilled, match="client 1: train"):
        pool.result(jobs[1])
    assert pool.result(jobs[2])[0] == {"client": 2}
    assert inner.groups == [[0, 1, 2], [0], [1], [2]]


def test_one_that_failed_is_its_own_failure():
    pool = Together(Recording(fails=(1,)), 2)
    jobs = submitted(pool, 0, 1)
    assert pool.result(jobs[0])[0] == {"client": 0}
    with pytest.raises(TaskFailed, match="a trace"):
        pool.result(jobs[1])


def test_a_run_that_goes_on_has_the_groups_that_it_had():
    before = Together(Recording(), 3)
    jobs = submitted(before, 0, 1, 2, 3, 4)
    before.result(jobs[1])
    before.cancel(jobs[3])
    inner = Recording()
    after = Together(inner, 3)
    after.restore(before.state())
    again = {client: submit(after, client) for client in (0, 4, 2)}  # who is under way, in whatever order
    assert inner.groups == [[0, 1, 2]]  # with the one whose reply has been read
    late = submit(after, 5)
    assert inner.groups == [[0, 1, 2], [3, 4, 5]]  # with the one whose board was lost
    for client, job in {**again, 5: late}.items():
        facts, vector = after.result(job)
        assert facts == {"client": client}
        assert torch.equal(vector, 2 * weights_of(task_of(0), MODEL))
    assert after.state() == []
