"""A pool of warm worker processes that train ahead of virtual time.

Jobs run in the order of their priority (the virtual time at which their result is due), so the result that is needed
next is usually there. Which worker runs a job never changes its result.
"""

from __future__ import annotations

import heapq
import itertools
import json
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from torch import Tensor

from cosp.errors import CospError
from cosp.run.pool import TaskFailed
from cosp.simulation import forks
from cosp.simulation.memory import SharedFloats
from cosp.simulation.worker import work
from cosp.task.serial import task_to_json
from cosp.task.task import Task

SLOTS = 2
"""Jobs that lie with a worker at a time: one it works on, one it can start at once."""


@dataclass(eq=False)
class Job:
    """A task in the pool: waiting, running, or done (``result`` or ``error`` is set)."""

    task: Task
    floats: int
    fill: Callable[[Tensor], None]
    """Writes the task's weights into a vector of ``floats`` entries, when a worker is ready for it."""
    result: tuple[dict[str, Any], Tensor] | None = None
    error: str | None = None
    cancelled: bool = False

    @property
    def done(self) -> bool:
        return self.result is not None or self.error is not None


class _Worker:
    """The parent's end of one worker process."""

    def __init__(self, slot_floats: int, store: Path) -> None:
        context = forks.context()
        memory = SharedFloats(SLOTS * slot_floats)
        self.slots = memory.vector.view(SLOTS, slot_floats)
        self.pipe, theirs = context.Pipe()
        self.jobs: dict[int, Job] = {}
        arguments = (theirs, memory, slot_floats, str(store))
        self.process = context.Process(target=work, args=arguments, daemon=True)
        self.process.start()
        memory.sent()
        theirs.close()

    def free_slot(self) -> int | None:
        return next((slot for slot in range(SLOTS) if slot not in self.jobs), None)

    def start(self, slot: int, job: Job) -> None:
        job.fill(self.slots[slot][: job.floats])
        self.jobs[slot] = job
        self.pipe.send((slot, job.floats, task_to_json(job.task)))

    def collect(self) -> None:
        """Take one answer from the pipe."""
        try:
            slot, floats, text = self.pipe.recv()
        except (EOFError, ConnectionResetError) as error:
            self.process.join(5)
            code = self.process.exitcode
            if code == -signal.SIGTERM:
                time.sleep(1)  # whoever ends all processes of a run one by one ends this one now
            raise CospError(
                f"a worker process died (exit code {code}); if it was killed for memory, use fewer --workers; "
                "--resume goes on from the last checkpoint"
            ) from error
        job = self.jobs.pop(slot)
        if floats < 0:
            job.error = text
        else:
            job.result = json.loads(text), self.slots[slot][:floats].clone()

    def close(self) -> None:
        self.pipe.close()
        self.process.terminate()
        self.process.join()


class WorkerPool:
    """Runs tasks on ``workers`` processes; use as a context manager."""

    def __init__(self, workers: int, *, slot_floats: int, store: Path) -> None:
        if workers < 1:
            raise ValueError(f"workers must be >= 1, got {workers}")
        self._workers: list[_Worker] = []
        forks.start()
        forks.check_files(workers, "--workers")
        try:
            with forks.undisturbed():
                for _ in range(workers):
                    self._workers.append(_Worker(slot_floats, store))
        except BaseException:
            self._end()
            raise
        self._waiting: list[tuple[float, int, Job]] = []
        self._tickets = itertools.count()

    def submit(self, task: Task, floats: int, fill: Callable[[Tensor], None], *, priority: float) -> Job:
        """Queue ``task``; lower ``priority`` runs first."""
        job = Job(task, floats, fill)
        heapq.heappush(self._waiting, (priority, next(self._tickets), job))
        self._collect(block=False)
        return job

    def result(self, job: Job) -> tuple[dict[str, Any], Tensor]:
        """Wait for ``job`` and return its facts and vector; TaskFailed if it raised."""
        while not job.done:
            self._collect(block=True)
        if job.error is not None:
            raise TaskFailed(job.error)
        assert job.result is not None
        return job.result

    def cancel(self, job: Job) -> None:
        """Do not begin ``job`` if it waits; one that has begun runs to its end for nothing."""
        job.cancelled = True

    def _collect(self, *, block: bool) -> None:
        self._feed()
        busy: dict[Any, _Worker] = {worker.pipe: worker for worker in self._workers if worker.jobs}
        ready: list[Any] = wait(list(busy), None if block else 0)
        for pipe in ready:
            busy[pipe].collect()
        self._feed()

    def _feed(self) -> None:
        """Hand waiting jobs to the workers with the fewest, most urgent first."""
        while self._waiting:
            if self._waiting[0][2].cancelled:
                heapq.heappop(self._waiting)
                continue
            worker = min(self._workers, key=lambda candidate: len(candidate.jobs))
            slot = worker.free_slot()
            if slot is None:
                return
            worker.start(slot, heapq.heappop(self._waiting)[2])

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        for worker in self._workers:
            worker.close()
