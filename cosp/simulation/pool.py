"""A pool of warm worker processes that train ahead of virtual time.

Jobs run in the order of their priority (the virtual time at which their result is due), so the result that is needed
next is usually there. Which worker runs a job never changes its result: so when one dies, another does its jobs again.
"""

from __future__ import annotations

import heapq
import itertools
import json
import signal
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cosp.errors import CospError, UserError
from cosp.run.pool import DEATHS, Source, TaskFailed, TaskKilled, death_of, named
from cosp.simulation import forks
from cosp.simulation.memory import SharedFloats
from cosp.simulation.worker import NO_MEMORY, READY, work
from cosp.task.serial import task_to_json
from cosp.task.task import Task

SLOTS = 2
"""Jobs that lie with a worker at a time: one it works on, one it can start at once."""

AHEAD_FLOATS = 1 << 24
"""Entries of weight changes that workers are at or that wait for their time: so many at least, or a model a worker."""

STARTS = 3
"""Workers, one after another, that may die before they are ready for a job until the run gives up."""


class _Died(Exception):
    """A worker process is gone."""


@dataclass(eq=False)
class Job:
    """A task in the pool: waiting, running, or done (``result`` or ``error`` is set)."""

    task: Task
    floats: int
    fill: Callable[[Tensor], None]
    """Writes the task's weights into a vector of ``floats`` entries, whenever a worker is ready for it."""
    turn: tuple[float, int]
    """Its priority, and its place among those of the same."""
    deaths: int = 0
    """Workers that died over it."""
    result: tuple[dict[str, Any], Tensor] | None = None
    error: TaskFailed | None = None
    cancelled: bool = False

    @property
    def done(self) -> bool:
        return self.result is not None or self.error is not None

    @property
    def brings(self) -> int:
        """Entries that its result may keep in memory until somebody asks for it; scores and counts are few."""
        return self.floats if self.task.kind == "train" else 0


class _Worker:
    """The parent's end of one worker process. Any method but ``close`` raises _Died when the process is gone."""

    def __init__(self, slot_floats: int, store: Path, device: str) -> None:
        self.device = device
        context = forks.context()
        memory = SharedFloats(SLOTS * slot_floats)
        self.slots = memory.vector.view(SLOTS, slot_floats)
        self.pipe, theirs = context.Pipe()
        self.jobs: dict[int, Job] = {}
        """Those that lie with it by slot, in the order in which it does them."""
        self.ready = False
        arguments = (theirs, memory, slot_floats, str(store), device)
        self.process = context.Process(target=work, args=arguments, daemon=True)
        self.process.start()
        memory.sent()
        theirs.close()

    def free_slot(self) -> int | None:
        return next((slot for slot in range(SLOTS) if slot not in self.jobs), None)

    def start(self, slot: int, job: Job) -> None:
        job.fill(self.slots[slot][: job.floats])
        self.jobs[slot] = job
        try:
            self.pipe.send((slot, job.floats, task_to_json(job.task)))
        except OSError as error:
            raise _Died from error

    def collect(self) -> None:
        """Take one answer from the pipe."""
        try:
            slot, floats, text = self.pipe.recv()
        except (EOFError, OSError) as error:
            raise _Died from error
        if slot == READY:
            if floats < 0:
                raise CospError(text)
            self.ready = True
            return
        job = self.jobs.pop(slot)
        if floats == NO_MEMORY:
            raise UserError(text)
        if floats < 0:
            job.error = TaskFailed(text)
        else:
            job.result = json.loads(text), self.slots[slot][:floats].clone()

    def close(self) -> int:
        """End the process and return its exit code; its memory is free."""
        self.pipe.close()
        self.process.terminate()
        self.process.join()
        self.slots = torch.empty(0)
        return self.process.exitcode or 0


class WorkerPool:
    """Runs tasks on a process a name in ``devices``, which computes there; use as a context manager."""

    def __init__(self, devices: Sequence[str], *, slot_floats: int, store: Path) -> None:
        workers = len(devices)
        if workers < 1:
            raise ValueError("devices must name one a worker, got none")
        self._start: Callable[[str], _Worker] = partial(_Worker, slot_floats, store)
        self._workers: list[_Worker] = []
        self._stillborn = 0
        """Workers that died before they were ready, since the last that was."""
        self._waiting: list[tuple[tuple[float, int], Job]] = []
        self._tickets = itertools.count()
        self._begun: set[Job] = set()
        """Jobs that were given to a worker and whose results nobody has asked for."""
        self._room = max(AHEAD_FLOATS, workers * slot_floats)
        forks.start()
        forks.check_files(workers, "--workers")
        try:
            with forks.undisturbed():
                for device in devices:
                    self._workers.append(self._start(device))
        except BaseException:
            self._end()
            raise

    def submit(
        self, task: Task, floats: int, fill: Callable[[Tensor], None], *, priority: float, source: Source = None
    ) -> Job:
        """Queue ``task``; lower ``priority`` runs first."""
        job = Job(task, floats, fill, (priority, next(self._tickets)))
        self._queue(job)
        self._collect(block=False)
        return job

    def result(self, job: Job) -> tuple[dict[str, Any], Tensor]:
        """Wait for ``job`` and return its facts and vector; TaskFailed (TaskKilled: workers died) if none."""
        while not job.done:
            self._collect(block=True, wanted=job)
        self._begun.discard(job)
        if job.error is not None:
            raise job.error
        assert job.result is not None
        return job.result

    def cancel(self, job: Job) -> None:
        """Do not begin ``job`` if it waits; one that has begun runs to its end for nothing."""
        job.cancelled = True
        self._begun.discard(job)

    def _queue(self, job: Job) -> None:
        self._begun.discard(job)
        heapq.heappush(self._waiting, (job.turn, job))

    def _collect(self, *, block: bool, wanted: Job | None = None) -> None:
        self._feed(wanted)
        busy: dict[Any, _Worker] = {worker.pipe: worker for worker in self._workers if worker.jobs}
        ready: list[Any] = wait(list(busy), None if block else 0)
        for pipe in ready:
            with self._replacing(busy[pipe]):
                busy[pipe].collect()
        self._feed(wanted)

    def _feed(self, wanted: Job | None) -> None:
        """Hand waiting jobs to the workers with the fewest, most urgent first.

        None runs so far ahead of its time that results fill the memory; but the one that is ``wanted`` now is done, and
        before it all that are more urgent.
        """
        while self._waiting:
            job = self._waiting[0][1]
            if job.cancelled:
                heapq.heappop(self._waiting)
                continue
            ahead = sum(begun.brings for begun in self._begun) + job.brings
            if ahead > self._room and (wanted is None or job.turn > wanted.turn):
                return
            worker = min(self._workers, key=lambda candidate: len(candidate.jobs))
            slot = worker.free_slot()
            if slot is None:
                return
            heapq.heappop(self._waiting)
            self._begun.add(job)
            with self._replacing(worker):
                worker.start(slot, job)

    @contextmanager
    def _replacing(self, worker: _Worker) -> Iterator[None]:
        """Put another in the place of ``worker`` if it turns out to have died, and its jobs back into the queue."""
        try:
            yield
        except _Died:
            place = self._workers.index(worker)
            code = worker.close()
            self._mourn(worker, code)
            with forks.undisturbed():
                self._workers[place] = self._start(worker.device)
        if worker.ready:
            self._stillborn = 0

    def _mourn(self, worker: _Worker, code: int) -> None:
        """Decide what becomes of a dead worker's jobs. The first of them it was at; the others it had not begun."""
        how = death_of(code)
        if code == -signal.SIGTERM:
            time.sleep(1)  # whoever ends all processes of a run one by one ends this one now
        if not worker.ready:
            self._stillborn += 1
            if self._stillborn >= STARTS:
                raise CospError(
                    f"{STARTS} worker processes died as they started, the last {how}; if the machine has no memory "
                    "for them, use fewer --workers; --resume goes on from the last checkpoint"
                )
        jobs = list(worker.jobs.values())
        if worker.ready and jobs:
            jobs[0].deaths += 1
            if jobs[0].deaths >= DEATHS:
                jobs[0].error = TaskKilled(jobs[0].task, how)
            warnings.warn(f"a worker process died ({how}) over {named(jobs[0].task)}", stacklevel=2)
        for job in jobs:
            if not job.done:
                self._queue(job)

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        for worker in self._workers:
            worker.close()
