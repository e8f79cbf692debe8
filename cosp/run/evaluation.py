"""Count a model's predictions in chunks of fixed size, so that the bits do not depend on who counts them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from torch import Tensor

from cosp.run.pool import Pool
from cosp.server.evaluation import CountPredictions, Counts
from cosp.submodel.flat import flatten, spans_of
from cosp.submodel.plan import SubmodelPlan
from cosp.submodel.shape import TransformerShape, layout_of
from cosp.submodel.slicing import State, extract
from cosp.task.task import Task
from cosp.trainer.trainer import Result, Trainer

CHUNK = 1000
FIRST = -1.0  # before any training job

Start = Callable[[Task, Tensor], Callable[[], Result]]
"""Starts a task on a weight vector and returns the function that waits for its result."""


def on_pool(pool: Pool) -> Start:
    """Evaluate in the pool's workers, side by side."""

    def start(task: Task, vector: Tensor) -> Callable[[], Result]:
        def fill(slot: Tensor) -> None:
            slot.copy_(vector)

        return partial(pool.result, pool.submit(task, vector.numel(), fill, priority=FIRST, source=vector))

    return start


def in_process(trainer: Trainer) -> Start:
    """Evaluate in this process, one chunk after another."""
    return lambda task, vector: partial(trainer.run, task, vector)


def counter(start: Start, shape: TransformerShape, plan: SubmodelPlan, sizes: dict[str, int]) -> CountPredictions:
    """Return a function that counts the predictions of the submodel ``plan`` on a split of ``sizes[split]`` samples."""
    layout = layout_of(shape)
    spans = spans_of(layout, plan.counts)

    def count(model: State, split: str) -> Counts:
        vector = flatten(extract(model, layout, plan), spans)
        results = []
        for first in range(0, sizes[split], CHUNK):
            last = min(first + CHUNK, sizes[split])
            task = Task("evaluate", -1, 0, 0, 0, shape, plan, split=split, first=first, last=last)
            results.append(start(task, vector))
        confusion = np.zeros((len(shape.exits_within(plan.depth)) + 1, shape.classes, shape.classes), dtype=np.int64)
        losses = np.zeros(len(confusion))
        for result in results:
            facts, counts = result()
            confusion += counts.numpy().astype(np.int64).reshape(confusion.shape)
            losses += np.array(facts["losses"])
        return confusion, losses

    return count
