"""A method: what it plans, trains and merges differently. Everything else is shared by all methods."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from cosp.client.task import ScoreSettings
from cosp.client.training import TrainSettings
from cosp.methods.assignment import Assignment
from cosp.models.transformer import TransformerShape
from cosp.server.aggregation import ServerStep
from cosp.server.clients import ClientRecord, Introduction
from cosp.server.staleness import WeightRule
from cosp.submodel import budget
from cosp.submodel.plan import SubmodelPlan
from cosp.transfer import TransferSettings


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a method may know of the run: the global model, local training, the seed and who takes part."""

    model: TransformerShape
    training: TrainSettings
    seed: int
    clients: tuple[Introduction, ...]
    assignment: Assignment = field(default_factory=Assignment)


PlanRule = Callable[[ClientRecord], SubmodelPlan]


@dataclass(frozen=True, kw_only=True)
class Method:
    """Plan rule, local objective and merge rule of one method.

    ``depth`` is how many blocks a client's plans hold. ``scoring`` None means that ``plan`` needs no scores, and
    ``chooses`` tells of which clients it does: not of those that hold everything. ``balanced`` losses know the class
    shares of a client's data.
    ``evaluated`` is the part of the global model that is the method's result: all of it, unless the method trains a
    smaller one.
    """

    name: str
    plan: PlanRule
    depth: Callable[[Introduction], int]
    scoring: ScoreSettings | None
    chooses: Callable[[Introduction], bool] = lambda client: True
    transfer: TransferSettings
    balanced: bool = False
    weigh: WeightRule
    step: ServerStep
    over_all: bool = False
    evaluated: SubmodelPlan

    def scoring_of(self, client: Introduction) -> ScoreSettings | None:
        """Return how ``client`` scores its units; None if its plans need no scores."""
        return self.scoring if self.chooses(client) else None


def affordable(
    setting: Setting, client: Introduction, *, depth_share: float, measure: budget.Measure
) -> budget.SubmodelShape:
    """Return the submodel shape that the run's assignment rule gives the client."""
    return setting.assignment.shape(client, setting.model, setting.training, depth_share=depth_share, measure=measure)


def shapes_of(
    setting: Setting, *, depth_share: float, measure: budget.Measure
) -> Callable[[Introduction], budget.SubmodelShape]:
    """Return what finds each client's ``affordable`` shape, anew only when its introduction is another.

    All are found now: a client that can hold no submodel is named before the run begins.
    """
    known: dict[int, tuple[Introduction, budget.SubmodelShape]] = {}

    def shape(client: Introduction) -> budget.SubmodelShape:
        found = known.get(client.client)
        if found is None or found[0] is not client:
            found = known[client.client] = (
                client,
                affordable(setting, client, depth_share=depth_share, measure=measure),
            )
        return found[1]

    for client in setting.clients:
        shape(client)
    return shape
