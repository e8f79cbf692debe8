"""The seam between a run and what computes for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor

from cosp.errors import CospError
from cosp.task.task import Task


class Pool(Protocol):
    """What runs tasks: worker processes, or nothing at all in a dry run."""

    def submit(self, task: Task, floats: int, fill: Callable[[Tensor], None], *, priority: float) -> Any:
        """Queue ``task`` and return a handle; lower ``priority`` runs first."""

    def result(self, job: Any) -> tuple[dict[str, Any], Tensor]:
        """Wait for a queued task and return its facts and vector; TaskFailed if it raised."""

    def cancel(self, job: Any) -> None:
        """Forget a queued task whose result nobody will ask for."""


class TaskFailed(CospError):
    """A task raised in its worker; the message is its traceback."""
