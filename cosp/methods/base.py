"""A method: what it plans, trains and merges differently. Everything else is shared by all methods."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol, TypeVar

from cosp.fleet.introduction import Introduction
from cosp.merge.aggregation import Merged
from cosp.merge.staleness import WeightRule
from cosp.methods.assignment import Assignment
from cosp.methods.clients import ClientRecord
from cosp.submodel import budget
from cosp.submodel.plan import SubmodelPlan, prefix_plan
from cosp.submodel.shape import TransformerShape
from cosp.submodel.slicing import State
from cosp.task.compression import CompressionSettings
from cosp.task.local import LocalSettings
from cosp.task.scoring import ScoreSettings
from cosp.task.task import Task
from cosp.task.training import TrainSettings
from cosp.transfer import TransferSettings


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a method may know of the run: the global model, local training, the seed and who takes part."""

    model: TransformerShape
    training: TrainSettings
    seed: int
    clients: tuple[Introduction, ...]
    assignment: Assignment = field(default_factory=Assignment)


Found = TypeVar("Found")
PlanRule = Callable[[ClientRecord], SubmodelPlan]


class Step(Protocol):
    """How a round moves the model; see ``cosp.merge.aggregation.ServerStep``."""

    def apply(self, state: State, velocity: State, merged: Merged) -> tuple[State, State]: ...


@dataclass(frozen=True, kw_only=True)
class Method:
    """Plan rule, local objective and merge rule of one method.

    ``depth`` is how many blocks a client's plans hold. ``scoring`` None means that ``plan`` needs no scores, and
    ``chooses`` tells of which clients it does: not of those that hold everything. ``balanced`` losses know the class
    shares of a client's data.
    ``evaluated`` is the part of the global model that is the method's result: all of it, unless the method trains a
    smaller one.

    Fields with a default are what most methods leave as it is.
    """

    name: str
    plan: PlanRule
    depth: Callable[[Introduction], int]
    scoring: ScoreSettings | None
    chooses: Callable[[Introduction], bool] = lambda client: True
    transfer: TransferSettings
    compression: CompressionSettings = field(default_factory=CompressionSettings)
    balanced: bool = False
    present_labels: bool = False
    """Train among the classes that a client has; see ``cosp.transfer.log_present``."""
    takes_part: Callable[[Introduction], bool] = lambda client: True
    quorum: int | None = None
    """How many arrivals close a round; None: as the run says."""
    local: Callable[[ClientRecord], LocalSettings] = lambda client: LocalSettings()
    within: Callable[[ClientRecord], tuple[SubmodelPlan, ...]] = lambda client: ()
    """Smaller submodels that are trained inside a client's own."""
    training: Callable[[TrainSettings], TrainSettings] = lambda training: training
    pools_scores: bool = False
    """Plan by the sum of all clients' scores."""
    initial: Callable[[State], State] = lambda state: state
    """What the server holds, from a fresh model."""
    served: Callable[[State], State] = lambda state: state
    """The model that is evaluated, from what the server holds."""
    weigh: WeightRule
    mass: WeightRule | None = None
    """What an arrival counts in the denominator; None: its weight."""
    interpolates: bool = False
    """An update leads from the model as it is now, not as it was received, to the trained weights."""
    step: Step
    over_all: bool = False
    over_moved: bool = False
    """Whom a merged entry is divided by; see ``cosp.merge.aggregation.OpenRound``."""
    evaluated: SubmodelPlan

    def scoring_of(self, client: Introduction) -> ScoreSettings | None:
        """Return how ``client`` scores its units; None if its plans need no scores."""
        return self.scoring if self.chooses(client) else None

    def training_parts(self, client: ClientRecord, training: TrainSettings) -> dict[str, Any]:
        """Return the parts of a ``Task`` that say how ``client`` trains."""
        return {
            "training": self.training(training).on(client.introduction.gpu),
            "transfer": self.transfer,
            "compression": self.compression,
            "balanced": self.balanced,
            "present_labels": self.present_labels,
            "local": self.local(client),
            "within": self.within(client),
        }


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
        return Task("train", 0, 0, 0, 0, model, plan, training=training, **extra(shape)).peak_memory_bytes

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
