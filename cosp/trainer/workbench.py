"""Where a trainer process works: one task at a time, in the main thread, where a signal can end it.

Python runs signal handlers in the main thread between two of its own steps, so a task ends within one operation of
torch, and neither the trainer nor training itself need know of it.
"""

from __future__ import annotations

import queue
import signal
import threading
import traceback
from typing import Any, Callable, Dict, Optional, Tuple

from cosp.trainer.trainer import Trainer

CANCEL = signal.SIGUSR1
LOOK_UP_S = 0.5
"""How long a signal may go unnoticed that comes just before the wait for a job begins: it does not end that wait."""


class Cancelled(BaseException):
    """Raised out of a task that nobody waits for; not an Exception, so that no task can swallow it."""


class Job:
    """Work on the bench, which returns facts and what was found; when ``done`` is set there is a ``result`` or an
    ``error``.
    """

    def __init__(self, work: Callable[[], Tuple[Dict[str, Any], Any]]) -> None:
        self.work = work
        self.result: Optional[Tuple[Dict[str, Any], Any]] = None
        self.error: Optional[str] = None
        self.cancelled = False
        self.done = threading.Event()


class Bench:
    """Runs jobs in the main thread; other threads take it, put a job on it, cancel it and leave it."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.finished = 0
        self._taken = threading.Lock()
        self._jobs: queue.Queue[Optional[Job]] = queue.Queue()
        self._doing: Optional[Job] = None

    def take(self) -> bool:
        """Reserve the bench; False if somebody has it."""
        return self._taken.acquire(blocking=False)

    def leave(self) -> None:
        self._taken.release()

    @property
    def busy(self) -> bool:
        return self._taken.locked()

    def put(self, job: Job) -> None:
        """Have ``job`` done; only for who has taken the bench, one job at a time."""
        self._jobs.put(job)

    def cancel(self, job: Job) -> None:
        """End ``job`` soon and wait until it has ended."""
        job.cancelled = True
        signal.pthread_kill(threading.main_thread().ident or 0, CANCEL)
        job.done.wait()

    def stop(self) -> None:
        """Have :meth:`work` return after what is on the bench."""
        self._jobs.put(None)

    def work(self) -> None:
        """Do jobs until stopped; call it in the main thread."""
        signal.signal(CANCEL, self._on_signal)
        while True:
            try:
                job = self._jobs.get(timeout=LOOK_UP_S)
            except queue.Empty:  # a signal that came on the way into the wait has been handled by now
                continue
            if job is None:
                return
            self._do(job)
            job.done.set()

    def _do(self, job: Job) -> None:
        try:
            try:
                self._doing = job
                if not job.cancelled:
                    job.result = job.work()
                    self.finished += 1
            finally:
                self._doing = None
        except Cancelled:
            job.result = None
        except Exception:  # whatever a task raises is that task's result; the trainer lives on
            job.error = traceback.format_exc()
        self._doing = None  # a signal may have come just before it was done above

    def _on_signal(self, number: int, frame: Any) -> None:
        if self._doing is not None and self._doing.cancelled:
            raise Cancelled
