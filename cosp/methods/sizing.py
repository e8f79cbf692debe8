"""How big each client's submodel is under the run's assignment rule."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar

from cosp.fleet.introduction import Introduction
from cosp.methods.method import Setting
from cosp.submodel import budget
from cosp.submodel.plan import prefix_plan
from cosp.submodel.shape import TransformerShape
from cosp.task.demand import peak_memory_bytes
from cosp.task.task import Task
from cosp.task.training import TrainSettings

Found = TypeVar("Found")

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
        memory_of=_memory_of(setting.model, setting.training, extra),
    )


@lru_cache(maxsize=64)  # one a method, so that ``budget.shape_within`` knows it again
def _memory_of(model: TransformerShape, training: TrainSettings, extra: Extra) -> budget.CostOf:
    def peak_bytes(shape: budget.SubmodelShape) -> int:
        plan = prefix_plan(shape.counts, shape.depth)
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
    """Return ``find`` that is asked now of every client, and of each again only when its introduction is another."""
    known: dict[int, tuple[Introduction, Found]] = {}

    def found(client: Introduction) -> Found:
        latest = known.get(client.client)
        if latest is None or latest[0] is not client:
            latest = known[client.client] = (client, find(client))
        return latest[1]

    for client in setting.clients:
        found(client)
    return found
