"""Stands in for the worker pool when only the timeline matters (``--dry``): no data is read, nothing is trained.

The model of a dry run has no parameters, so updates are empty and nothing is merged. Scores are drawn at random: times,
bytes, memory and energy are those of a real run with other units; accuracy and loss are not reported at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from cosp.fleet.introduction import Introduction
from cosp.run.pool import Source
from cosp.seeds import numpy_stream
from cosp.submodel.selection import random_scores
from cosp.task.payload import scores_to_vector
from cosp.task.task import Task


class DryPool:
    """Answers at once. Samples are those that the clients introduced themselves with."""

    def __init__(self, introductions: Sequence[Introduction]) -> None:
        self._introductions = introductions

    def submit(
        self, task: Task, floats: int, fill: Callable[[Tensor], None], *, priority: float, source: Source = None
    ) -> Task:
        return task

    def result(self, job: Task) -> tuple[dict[str, Any], Tensor]:
        samples = self._introductions[job.client].samples
        if job.kind == "score":
            rng = numpy_stream(job.seed, "dry scores", job.client, job.version)
            return {"samples": samples}, scores_to_vector(random_scores(job.shape, job.plan.depth, rng))
        if job.kind == "moments":
            return {"samples": samples}, torch.empty(0)
        nothing = {"loss": None, "local_accuracy_received": None, "local_accuracy_trained": None}
        return {"samples": samples, **nothing}, torch.empty(0)

    def cancel(self, job: Task) -> None:
        pass
