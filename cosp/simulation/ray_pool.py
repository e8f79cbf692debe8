"""A pool of actors on a Ray cluster. Ray places them, moves the data, and gives a task that died with its actor or its
node to the actor's successor; which task is next is decided here, as everywhere, by when its result is due.
"""

from __future__ import annotations

import heapq
import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ray
import torch
from ray.exceptions import RayError
from torch import Tensor

from cosp.errors import CospError, UserError
from cosp.run.pool import Source, TaskFailed, TaskKilled
from cosp.simulation.ray_worker import Numbers
from cosp.submodel.slicing import State
from cosp.task.serial import task_to_json
from cosp.task.task import Task


@dataclass(eq=False)
class RayJob:
    """A task in the pool: waiting, running, or done (``found`` is set)."""

    task: Task
    floats: int
    fill: Callable[[Tensor], None]
    source: Source
    turn: tuple[float, int]
    """Its priority, and its place among those of the same."""
    found: Any = None
    """Reference to what came of it, which stays in the object store until somebody asks."""
    cancelled: bool = False


class RayPool:
    """Runs tasks on ``actors``, each of which has one at a time: so a death is never put down to another's task."""

    def __init__(self, actors: Sequence[Any], data: Any) -> None:
        """``data`` is the reference to the run's RunData: as long as the pool keeps it, an actor can begin again."""
        self._data = data
        self._free = list(actors)
        self._running: dict[Any, tuple[RayJob, Any]] = {}
        """Reference to a result -> its job and who does it."""
        self._waiting: list[tuple[tuple[float, int], RayJob]] = []
        self._tickets = itertools.count()
        self._put: dict[int, tuple[Source, Any]] = {}
        """What lies in the object store: by its address, which nothing else has as long as it is kept."""

    def submit(
        self, task: Task, floats: int, fill: Callable[[Tensor], None], *, priority: float, source: Source = None
    ) -> RayJob:
        """Queue ``task``; lower ``priority`` runs first."""
        job = RayJob(task, floats, fill, source, (priority, next(self._tickets)))
        heapq.heappush(self._waiting, (job.turn, job))
        self._collect(block=False)
        return job

    def result(self, job: RayJob) -> tuple[dict[str, Any], Tensor]:
        """Wait for ``job`` and return its facts and vector; TaskFailed (TaskKilled: actors died) if none."""
        while job.found is None:
            self._collect(block=True)
        return _result(job)

    def cancel(self, job: RayJob) -> None:
        """Do not begin ``job`` if it waits; one that has begun runs to its end for nothing."""
        job.cancelled = True

    def _collect(self, *, block: bool) -> None:
        self._feed()
        if block:
            ray.wait(list(self._running), num_returns=1)
        if self._running:
            ready, _ = ray.wait(list(self._running), num_returns=len(self._running), timeout=0)
            for reference in ready:
                job, actor = self._running.pop(reference)
                self._free.append(actor)
                job.found = None if job.cancelled else reference
            self._feed()

    def _feed(self) -> None:
        while self._free and self._waiting:
            job = heapq.heappop(self._waiting)[1]
            if not job.cancelled:
                actor = self._free.pop()
                reference = actor.run.remote(task_to_json(job.task), self._stored(job), [self._data])
                self._running[reference] = job, actor

    def _stored(self, job: RayJob) -> Any:
        """Return the reference to what the job's weights are cut from, put into the object store once."""
        if job.source is None:
            vector = torch.empty(job.floats)
            job.fill(vector)
            return ray.put(vector.numpy())
        key = id(job.source)
        if key not in self._put:
            needed = {id(one.source) for _, one in self._waiting} | {
                id(one.source) for one, _ in self._running.values()
            }
            self._put = {known: kept for known, kept in self._put.items() if known in needed}
            self._put[key] = job.source, ray.put(_numbers(job.source))
        return self._put[key][1]


def _result(job: RayJob) -> tuple[dict[str, Any], Tensor]:
    try:
        facts, found = ray.get(job.found)
    except RayError as error:  # not the task's fault: that, Ray tries for ever
        raise CospError(
            f"Ray: {str(error).strip().splitlines()[0]}; --resume goes on from the last checkpoint"
        ) from error
    if facts == "killed":
        raise TaskKilled(job.task, "on Ray")
    if facts == "no memory":
        raise UserError(found)
    if not facts:
        raise TaskFailed(found)
    return json.loads(facts), torch.from_numpy(found.copy())


def _numbers(source: State | Tensor) -> Numbers:
    if isinstance(source, Tensor):
        return source.numpy()
    return {name: tensor.numpy() for name, tensor in source.items()}
