"""A method as a value: what it plans, trains and merges differently. Everything else is shared by all methods."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from cosp.fleet.introduction import Introduction
from cosp.merge.aggregation import Merged
from cosp.merge.clipping import Clip
from cosp.merge.products import Products
from cosp.merge.robust import Robust
from cosp.merge.staleness import WeightRule
from cosp.methods.assignment import Assignment
from cosp.methods.clients import ClientRecord
from cosp.submodel.plan import SubmodelPlan
from cosp.submodel.shape import TransformerShape
from cosp.submodel.slicing import State
from cosp.task.compression import CompressionSettings
from cosp.task.local import LocalSettings
from cosp.task.scoring import ScoreSettings
from cosp.task.training import TrainSettings
from cosp.transfer import TransferSettings


def everybody(client: Introduction) -> bool:
    return True


PlanRule = Callable[[ClientRecord], SubmodelPlan]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a method may know of the run: the global model, local training, the seed and who takes part."""

    model: TransformerShape
    training: TrainSettings
    seed: int
    clients: Sequence[Introduction]
    assignment: Assignment = field(default_factory=Assignment)


@dataclass(frozen=True, kw_only=True)
class Submodels:
    """What each client holds. ``depth`` is how many blocks its plans have."""

    plan: PlanRule
    depth: Callable[[Introduction], int]
    scoring: ScoreSettings | None = None
    """How units are scored; None: plans need no scores."""
    chooses: Callable[[Introduction], bool] = lambda client: True
    """Whose plans need scores: not those of who holds everything."""
    pools_scores: bool = False
    """Plan by the sum of all clients' scores."""

    def scoring_of(self, client: Introduction) -> ScoreSettings | None:
        """Return how ``client`` scores its units; None if its plans need no scores."""
        return self.scoring if self.chooses(client) else None


@dataclass(frozen=True, kw_only=True)
class LocalTraining:
    """How a client trains what it holds, and in which number formats the two sides send."""

    transfer: TransferSettings
    compression: CompressionSettings = field(default_factory=CompressionSettings)
    balanced: bool = False
    """The loss knows the class shares of a client's data; see ``cosp.transfer.log_class_shares``."""
    present_labels: bool = False
    """Train among the classes that a client has; see ``cosp.transfer.log_present``."""
    settings: Callable[[TrainSettings], TrainSettings] = lambda training: training
    """The run's settings as the method changes them."""
    steps: Callable[[ClientRecord], LocalSettings] = lambda client: LocalSettings()
    """What a step does beside plain training."""
    within: Callable[[ClientRecord], tuple[SubmodelPlan, ...]] = lambda client: ()
    """Smaller submodels that are trained inside a client's own."""

    def parts(self, client: ClientRecord, training: TrainSettings) -> dict[str, Any]:
        """Return the parts of a ``Task`` that say how ``client`` trains."""
        return {
            "training": self.settings(training).on(client.introduction.gpu),
            "transfer": self.transfer,
            "compression": self.compression,
            "balanced": self.balanced,
            "present_labels": self.present_labels,
            "local": self.steps(client),
            "within": self.within(client),
        }


class Step(Protocol):
    """How a round moves the model; see ``cosp.merge.aggregation.ServerStep``."""

    def apply(self, state: State, velocity: State, merged: Merged) -> tuple[State, State]: ...


@dataclass(frozen=True, kw_only=True)
class Merging:
    """How arrivals become a version: what each weighs, whom an entry is divided by, how far the model moves."""

    weigh: WeightRule
    step: Step
    mass: WeightRule | None = None
    """What an arrival counts in the denominator; None: its weight."""
    over_all: bool = False
    over_moved: bool = False
    """Whom a merged entry is divided by; see ``cosp.merge.aggregation.OpenRound``."""
    interpolates: bool = False
    """An update leads from the model as it is now, not as it was received, to the trained weights."""
    clip: Clip | bool | None = None
    """How large an update may be; None: as large as it is in a simulation, bounded on real boards; False: no bound."""
    quorum: int | None = None
    """How many arrivals close a round; None: as the run says."""
    rule: Robust | None = None
    """What is made of a round's updates in place of their weighted mean."""

    products: Products | None = None
    """What is gathered of adapters in place of A and B; None: A and B."""
    changes_frozen: frozenset[str] = frozenset()
    """Frozen tensors that versions change all the same: a board cannot keep them."""

    @property
    def fewest(self) -> int:
        """Return how many arrivals a version is made of at least."""
        return self.rule.needs if self.rule else 1


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """What the server holds, and the part of it that is the method's result: all, unless it trains a smaller model."""

    evaluated: SubmodelPlan
    initial: Callable[[State], State] = lambda state: state
    """What the server holds, from a fresh model."""
    served: Callable[[State], State] = lambda state: state
    """The model that is evaluated, from what the server holds."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """One method of federated learning on unequal boards."""

    name: str
    submodels: Submodels
    local: LocalTraining
    merging: Merging
    model: ServedModel
    takes_part: Callable[[Introduction], bool] = everybody
