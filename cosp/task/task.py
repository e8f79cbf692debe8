"""What the server asks of a client, as one value that fits a JSON text.

Everything a trainer must know beside its own data and the weights is here, so a trainer needs no configuration file.
"""

from __future__ import annotations

import base64
import json
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any, Dict, Optional, Tuple

from cosp.models import TransformerShape, shape_from_json
from cosp.submodel.flat import Spans, spans_of
from cosp.submodel.footprint import Footprint, Step, footprint
from cosp.submodel.matrices import all_matrices, marked_count
from cosp.submodel.passes import FLOAT_BYTES
from cosp.submodel.plan import GROUPS, SubmodelPlan, wire_bytes
from cosp.submodel.shape import layout_of
from cosp.submodel.variants import variant_bytes, variant_step
from cosp.task.compression import CompressionSettings
from cosp.task.local import LocalSettings
from cosp.task.scoring import ScoreSettings
from cosp.task.training import TrainSettings
from cosp.transfer import TransferSettings

EVALUATION_BATCH = 250
"""Samples that are judged at a time, memory permitting."""


@dataclass(frozen=True)
class Task:
    """One unit of work for a trainer.

    kind "train": train ``plan``'s submodel and return its weight change. "score": score the units of the full-width
    blocks that ``plan`` names. "evaluate": count the predictions of every exit on ``first:last`` of the server's
    ``split``.
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
    split: str = ""
    first: int = 0
    last: int = 0

    @cached_property
    def size(self) -> Footprint:
        """What the plan's submodel costs; kept, because a fleet's every task asks for it many times."""
        return footprint(self.shape, self.plan.counts, self.precision)

    @property
    def precision(self) -> str:
        """In what the task's steps compute: importance learning and judging are float32 always."""
        return self.training.precision if self.kind == "train" else "float32"

    @property
    def parameters(self) -> int:
        return self.size.parameters

    @cached_property
    def sizes_within(self) -> Tuple[Footprint, ...]:
        """What the smaller submodels cost."""
        return tuple(footprint(self.shape, plan.counts, self.precision) for plan in self.within)

    @property
    def training_step(self) -> Step:
        """What one step of local training asks of a board."""
        training = self.training
        step = self.local.step(self.size, self.sizes_within, training.batch_size, training.optimizer)
        return step + variant_step(self.shape, self.size, training.batch_size) + self._remembering

    @property
    def _remembering(self) -> Step:
        """What it adds to a step that the submodel as received teaches, too: kernels over a few numbers a sample."""
        alone = len(self.shape.exits_within(self.plan.depth)) == 1  # it had no teacher without
        return Step(0, 0, (24 if alone else 2) if self.transfer.remembers(self.version) else 0)

    @property
    def spans(self) -> Spans:
        """Where each tensor of the submodel lies in the vector that travels."""
        return spans_of(layout_of(self.shape), self.plan.counts)

    @property
    def sends_whole_numbers(self) -> bool:
        """Say whether the reply is a weight change packed into whole numbers."""
        return self.kind == "train" and not self.bits_sent and self.compression.up == "int8"

    @cached_property
    def bits_sent(self) -> int:
        """How many weights the reply tells by one bit each, and none otherwise; 0 where it holds floats."""
        sends_mask = self.kind == "train" and self.local.view == "fedpm"
        return marked_count(self.shape, self.plan.counts, all_matrices) if sends_mask else 0

    @cached_property
    def download_bytes(self) -> int:
        """Payload of the instruction: the weights and the plans."""
        plans = (self.plan, *self.within)
        return self.compression.download_bytes(self.parameters) + sum(
            wire_bytes(self.shape.sizes, plan.depth) for plan in plans
        )

    @cached_property
    def upload_bytes(self) -> int:
        """Payload of the reply: the weight change, a bit a masked weight, or the float32 scores."""
        if self.kind == "train":
            change = self.compression.upload_bytes(self.parameters, tensor_count(self.shape, self.plan.depth))
            return (self.bits_sent + 7) // 8 or change
        return 4 * self.plan.depth * sum(self.shape.sizes.of(group) for group in GROUPS)

    @property
    def peak_memory_bytes(self) -> int:
        """Memory that the task needs at its peak, as predicted."""
        size = self.size
        if self.kind == "train":
            batch = self.training.batch_size
            local = self.local.training_bytes(size, self.sizes_within, batch, self.training.optimizer)
            return local + variant_bytes(self.shape, size, batch)
        if self.kind == "score":
            return self.scoring.peak_bytes(size, self.scoring.held_samples) if self.scoring else size.scoring_bytes(1)
        return size.evaluation_bytes(self.judging_batch)

    def judged_samples(self, samples: int, test_samples: int) -> int:
        """Return how many samples the submodel predicts beside its steps: its own test data, as received and as
        trained, and what it trains on, where it is its own teacher as received.
        """
        return 2 * test_samples + (samples if self.transfer.remembers(self.version) else 0)

    @property
    def judging_batch(self) -> int:
        """How many samples are judged at a time: where training fits, judging itself must fit too."""
        if self.kind != "train":
            return EVALUATION_BATCH
        size = self.size
        beside = size.evaluation_bytes(0) + FLOAT_BYTES * size.parameters  # the gradients' vector stays
        free = size.training_bytes(self.training.batch_size, self.training.optimizer) - beside
        return max(1, min(EVALUATION_BATCH, free // size.evaluation.held_bytes))

    def to_json(self) -> str:
        # asdict would copy every index of the plans
        value = asdict(replace(self, plan=None, within=()))  # type: ignore[arg-type]
        value["plan"] = self._text_of(self.plan)
        value["within"] = [self._text_of(plan) for plan in self.within]
        return json.dumps(value, sort_keys=True)

    def _text_of(self, plan: SubmodelPlan) -> str:
        return base64.b64encode(plan.to_bytes(self.shape.sizes)).decode()

    @staticmethod
    def from_json(text: str) -> Task:
        value: Dict[str, Any] = json.loads(text)
        shape = shape_from_json(value["shape"])
        scoring = value["scoring"]
        return Task(
            **{
                **value,
                "shape": shape,
                "plan": _plan_of(value["plan"], shape),
                "within": tuple(_plan_of(plan, shape) for plan in value["within"]),
                "local": LocalSettings(**value["local"]),
                "compression": CompressionSettings(**value["compression"]),
                "training": TrainSettings(**value["training"]),
                "transfer": TransferSettings(**value["transfer"]),
                "scoring": None if scoring is None else ScoreSettings(**scoring),
            }
        )


@lru_cache(maxsize=256)
def tensor_count(shape: TransformerShape, depth: int) -> int:
    """Return how many tensors a submodel of ``depth`` blocks has."""
    return sum(entry.held(depth) for entry in layout_of(shape).values())


def _plan_of(text: str, shape: TransformerShape) -> SubmodelPlan:
    return SubmodelPlan.from_bytes(base64.b64decode(text), shape.sizes)
