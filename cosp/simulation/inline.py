"""Stands in for worker processes where a run has one core to itself, as a table's cells have: tasks run here.

Each runs when its result is asked for, so what nobody asks for, under way when a run ends, is never trained.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cosp.errors import UserError
from cosp.run.pool import Source, TaskFailed
from cosp.simulation.worker import keep_freed_memory, no_memory
from cosp.task.task import Task
from cosp.trainer.samples import Samples
from cosp.trainer.store import ClientStore, Rows
from cosp.trainer.trainer import Trainer


@dataclass(frozen=True, eq=False)
class Waiting:
    task: Task
    floats: int
    fill: Callable[[Tensor], None]


class InlinePool:
    """A ``Pool`` without processes; results are those of a worker, to the bit."""

    def __init__(self, splits: Mapping[str, Samples], rows: Sequence[Rows], *, device: str | None = None) -> None:
        """``rows`` are each client's of the split "train"; nothing is copied."""
        keep_freed_memory()
        self._trainer = Trainer(ClientStore(splits["train"], rows), splits, device=device)

    def submit(
        self, task: Task, floats: int, fill: Callable[[Tensor], None], *, priority: float, source: Source = None
    ) -> Waiting:
        return Waiting(task, floats, fill)

    def result(self, job: Waiting) -> tuple[dict[str, Any], Tensor]:
        """Run the task and return its facts and vector; TaskFailed if it raised."""
        weights = torch.empty(job.floats)
        job.fill(weights)
        torch.set_flush_denormal(True)  # as in a worker; the server's own sums are not flushed there
        try:
            facts, vector = self._trainer.run(job.task, weights)
        except torch.cuda.OutOfMemoryError:
            raise UserError(no_memory(self._trainer, job.task)) from None
        except Exception:  # whatever a task raises is that task's result
            raise TaskFailed(traceback.format_exc()) from None
        finally:
            torch.set_flush_denormal(False)
        return json.loads(json.dumps(facts)), vector

    def cancel(self, job: Waiting) -> None:
        pass
