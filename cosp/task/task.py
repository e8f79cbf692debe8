"""What the server asks of a client, as one value that fits a JSON text.

Everything a trainer must know beside its own data and the weights is here, so a trainer needs no configuration file.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import NamedTuple, Optional, Tuple

from cosp.models import TransformerShape
from cosp.submodel.flat import Spans, spans_of, trained_spans_of
from cosp.submodel.footprint import Footprint, footprint
from cosp.submodel.frozen import Frozen
from cosp.submodel.plan import GroupSizes, SubmodelPlan
from cosp.submodel.shape import layout_of
from cosp.task.compression import CompressionSettings
from cosp.task.local import LocalSettings
from cosp.task.scoring import ScoreSettings
from cosp.task.training import TrainSettings
from cosp.transfer import TransferSettings

EVALUATION_BATCH = 250
"""Samples that are judged at a time, memory permitting."""


class Beside(NamedTuple):
    """What tells a task from the one in whose pass it is trained, too."""

    client: int
    turn: int
    plan: SubmodelPlan


@dataclass(frozen=True)
class Task:
    """One unit of work for a trainer.

    kind "train": train ``plan``'s submodel and return its weight change. "score": score the units of the full-width
    blocks that ``plan`` names. "evaluate": count the predictions of every exit on ``first:last`` of the server's
    ``split``. "moments": sum the features that ``plan``'s exits give of the client's samples, ``training.batch_size``
    read at a time. "serve": answer ``first:last`` of ``split``, what came to the client since it was last asked; the
    board answers ``training.batch_size`` at a time.
    """

    kind: str
    client: int
    version: int
    """Model version that the weights belong to."""
    turn: int
    """How many tasks the client was given before."""
    seed: int
    shape: TransformerShape
    plan: SubmodelPlan
    keep: float = 1.0
    training: TrainSettings = field(default_factory=TrainSettings)
    transfer: TransferSettings = field(default_factory=TransferSettings)
    balanced: bool = False
    """Train against the client's own class shares; see ``cosp.transfer.log_class_shares``."""
    present_labels: bool = False
    """Train only among the classes that the client has; see ``cosp.transfer.log_present``."""
    local: LocalSettings = field(default_factory=LocalSettings)
    within: Tuple[SubmodelPlan, ...] = ()
    """Smaller submodels inside ``plan`` that are trained with it."""
    compression: CompressionSettings = field(default_factory=CompressionSettings)
    scoring: Optional[ScoreSettings] = None
    kept: Tuple[Tuple[str, str], ...] = ()
    """Frozen tensors that the client has from its last task, and their contents: they are not sent."""
    split: str = ""
    first: int = 0
    last: int = 0
    beside: Tuple[Beside, ...] = ()
    """A simulation's other clients that are trained in the same pass, whose plans keep as many units."""

    @cached_property
    def size(self) -> Footprint:
        """What the plan's submodel costs; kept, because a fleet's every task asks for it many times."""
        return self.footprint_of(self.plan)

    def footprint_of(self, plan: SubmodelPlan) -> Footprint:
        """Return what a submodel costs that is trained as the task says."""
        again = self.kind == "train" and self.training.checkpointing
        return footprint(self.held_shape, plan.counts, self.precision, self.frozen, again)

    @property
    def frozen(self) -> Frozen:
        """What of the submodel never changes in the run."""
        return self.training.left

    @cached_property
    def held_shape(self) -> TransformerShape:
        """What fixes the model that a board has: of the words those of the plan alone."""
        return self.shape.holding(self.plan.words)

    def in_own_words(self) -> Task:
        """Return the task as a board does it whose model has no other words than the plan's."""
        if self.plan.words is None:
            return self
        return replace(self, shape=self.held_shape, plan=replace(self.plan, words=None))

    @property
    def each(self) -> Tuple[Task, ...]:
        """The task itself, and those beside it."""
        alone = replace(self, beside=()) if self.beside else self
        return (alone, *(replace(alone, client=b.client, turn=b.turn, plan=b.plan) for b in self.beside))

    @property
    def precision(self) -> str:
        """In what the task's steps compute: importance learning and judging are float32 always."""
        return self.training.precision if self.kind == "train" else "float32"

    @property
    def parameters(self) -> int:
        return self.size.parameters

    @property
    def spans(self) -> Spans:
        """Where each tensor of the submodel lies in the vector that a client starts from."""
        return _spans(self.held_shape, self.plan.counts, self.frozen)

    @property
    def trained_spans(self) -> Spans:
        """The same in the vector that a client trains and sends back: nothing that is frozen."""
        return _trained_spans(self.held_shape, self.plan.counts, self.frozen)

    @property
    def frozen_spans(self) -> Spans:
        """The first of the spans: those of the tensors that are not trained."""
        trained = self.trained_spans
        return {name: span for name, span in self.spans.items() if name not in trained}

    @property
    def sent(self) -> int:
        """Parameters that are sent to the client."""
        if not self.kept:
            return self.parameters
        spans = self.spans
        return self.parameters - sum(spans[name].stop - spans[name].start for name, _ in self.kept)

    @property
    def trained(self) -> int:
        """Parameters of the submodel that are trained."""
        return self.size.parameters - self.size.frozen


@lru_cache(maxsize=256)  # a fleet has few forms of submodels and many tasks
def _spans(shape: TransformerShape, counts: Tuple[GroupSizes, ...], frozen: Frozen) -> Spans:
    return spans_of(layout_of(shape), counts, frozen)


@lru_cache(maxsize=256)
def _trained_spans(shape: TransformerShape, counts: Tuple[GroupSizes, ...], frozen: Frozen) -> Spans:
    return trained_spans_of(layout_of(shape), counts, frozen)
