"""The seam between a run and what computes for it."""

from __future__ import annotations

import signal
from collections.abc import Callable
from itertools import groupby
from typing import Any, Protocol

from torch import Tensor

from cosp.amounts import amount
from cosp.errors import CospError
from cosp.submodel.plan import GROUPS
from cosp.submodel.slicing import State
from cosp.task.demand import peak_memory_bytes
from cosp.task.task import Task

Source = State | Tensor | None
"""What a task's weights are cut from: its version's model, or them as they are; nobody writes to it. Tasks with the
same source have the same object, so that it need travel but once. None: only ``fill`` knows.
"""


class Pool(Protocol):
    """What runs tasks: worker processes, or nothing at all in a dry run."""

    def submit(
        self, task: Task, floats: int, fill: Callable[[Tensor], None], *, priority: float, source: Source = None
    ) -> Any:
        """Queue ``task`` and return a handle; lower ``priority`` runs first.

        ``fill`` writes its ``floats`` weights, as often as workers are given the task. ``source`` is for pools that
        have other machines cut.
        """

    def result(self, job: Any) -> tuple[dict[str, Any], Tensor]:
        """Wait for a queued task and return its facts and vector; TaskFailed (TaskKilled: workers died) if none."""

    def cancel(self, job: Any) -> None:
        """Forget a queued task whose result nobody will ask for."""


class TaskFailed(CospError):
    """A task raised in its worker; the message is its traceback."""


DEATHS = 3
"""Workers that may die over a task until it counts as what they die of."""


class TaskKilled(TaskFailed):
    """Every worker that was given a task died over it; ``how`` the last one did."""

    def __init__(self, task: Task, how: str) -> None:
        super().__init__(f"{DEATHS} worker processes died over {named(task)}, the last {how}")


def named(task: Task) -> str:
    """Return a task in words: whose, what, and how large it is."""
    whose = f"client {task.client}: {task.kind}" if task.client >= 0 else f"{task.kind} {task.split}"
    return (
        f"{whose} at version {task.version}, {amount(task.parameters, 'parameters')}, "
        f"{amount(peak_memory_bytes(task), 'bytes')} by prediction, plan of {'/'.join(GROUPS)}: {_plan_of(task)}"
    )


def _plan_of(task: Task) -> str:
    """Return how many units of each group a plan keeps: ``4 blocks 2/8/16/8, 1 block 1/8/16/8``."""
    alike = [(counts, len(list(blocks))) for counts, blocks in groupby(task.plan.counts)]
    words = [
        f"{blocks} block{'s' * (blocks > 1)} {'/'.join(str(counts.of(group)) for group in GROUPS)}"
        for counts, blocks in alike
    ]
    return ", ".join(words[:4]) + (" ..." if len(words) > 4 else "")


def death_of(code: int) -> str:
    """Return in words how a process ended, by its exit code."""
    try:
        return f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
    except ValueError:  # a signal without a name
        return f"by signal {-code}"
