"""How big each client's submodel is under the run's assignment rule."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import lru_cache
from typing import Any, TypeVar

from cosp.fleet.census import one_of_each
from cosp.fleet.introduction import Introduction
from cosp.methods.method import Setting
from cosp.submodel import budget
from cosp.submodel.shape import TransformerShape
from cosp.task.demand import peak_memory_bytes
from cosp.task.task import Task
from cosp.task.training import TrainSettings

Found = TypeVar("Found")

KNOWN = 65_536
"""Answers that are remembered."""

Extra = Callable[[budget.SubmodelShape], dict[str, Any]]
"""What a method's training task of that shape has beside plain training: ``Task.local`` and ``Task.within``."""


def plain(shape: budget.SubmodelShape) -> dict[str, Any]:
    return {}


def affordable(
    setting: Setting, client: Introduction, *, depth_share: float, measure: budget.Measure, extra: Extra = plain
) -> budget.SubmodelShape:
    """Return the submodel shape that the run's assignment rule gives the client."""
    return setting.assignment.shape(
        client,
        setting.model,
        setting.training,
        depth_share=depth_share,
        measure=measure,
        memory_of=memory_of(setting.model.holding(client.words), setting.training, extra),
    )


@lru_cache(maxsize=64)  # one a method, so that ``budget.shape_within`` knows it again
def memory_of(model: TransformerShape, training: TrainSettings, extra: Extra = plain) -> budget.CostOf:
    """Return what tells the bytes that a method's training task of some shape holds at its peak."""

    def peak_bytes(shape: budget.SubmodelShape) -> int:
        plan = shape.prefix(model)
        return peak_memory_bytes(Task("train", 0, 0, 0, 0, model, plan, training=training, **extra(shape)))

    return peak_bytes


def shapes_of(
    setting: Setting, *, depth_share: float, measure: budget.Measure, extra: Extra = plain
) -> Callable[[Introduction], budget.SubmodelShape]:
    """Return what finds each client's ``affordable`` shape, anew only when its introduction is another.

    All are found now: a client that can hold no submodel is named before the run begins.
    """
    return for_clients(
        setting, lambda client: affordable(setting, client, depth_share=depth_share, measure=measure, extra=extra)
    )


def for_clients(setting: Setting, find: Callable[[Introduction], Found]) -> Callable[[Introduction], Found]:
    """Return ``find`` that is asked now of every client, or of one of each kind where kinds are known, and later only
    for what it was not asked lately: clients that can afford the same find the same.
    """
    known: dict[Hashable, Found] = {}
    timed = setting.assignment.timed

    def found(client: Introduction) -> Found:
        words = client.words and len(client.words)
        key = (client.keep, client.memory_bytes, client.gpu, client.board, client.link, words)
        wanted = (*key, client.speed, client.samples, client.test_samples) if timed else key
        if wanted not in known:
            if len(known) >= KNOWN:
                known.clear()
            known[wanted] = find(client)
        return known[wanted]

    for client in one_of_each(setting.clients):
        found(client)
    return found
