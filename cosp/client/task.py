"""What the server asks of a client, as one value that fits a JSON text.

Everything a trainer must know beside its own data and the weights is here, so a trainer needs no configuration file.
"""

from __future__ import annotations

import base64
import json
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, Dict, Optional

from cosp.client.training import TrainSettings
from cosp.errors import ConfigError
from cosp.models import TransformerShape, shape_from_json
from cosp.submodel.footprint import Footprint, footprint
from cosp.submodel.passes import FLOAT_BYTES
from cosp.submodel.plan import GROUPS, SubmodelPlan, wire_bytes
from cosp.transfer import TransferSettings

EVALUATION_BATCH = 250
"""Samples that are judged at a time, memory permitting."""

SCORES = ("taylor", "gates", "magnitude")


@dataclass(frozen=True)
class ScoreSettings:
    """How a client scores units; ``samples`` bounds the data read in a pass.

    A batch is what a score is measured on. It is read ``micro_batch`` samples at a time (None: at once), which the
    server sets where a board's memory asks for it; scores do not depend on it but for float rounding.
    """

    __pydantic_config__ = {"extra": "forbid"}  # a misspelt key in a config is an error

    how: str = "taylor"
    samples: int = 128
    batch_size: int = 16
    refresh_dispatches: int = 10
    gate_epochs: int = 5
    gate_learning_rate: float = 0.05
    gate_penalty: float = 1.0
    micro_batch: Optional[int] = None

    def __post_init__(self) -> None:
        if self.how not in SCORES:
            raise ValueError(f"how must be one of {SCORES}, got {self.how!r}")
        for name in ("samples", "batch_size", "refresh_dispatches", "gate_epochs"):
            if not getattr(self, name) >= 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}")
        if self.micro_batch is not None and not self.micro_batch >= 1:
            raise ValueError(f"micro_batch must be >= 1 or None, got {self.micro_batch}")

    @property
    def held_samples(self) -> int:
        """Samples whose activations are held at a time."""
        if self.how == "magnitude":
            return 0  # it reads the weights alone
        return self.batch_size if self.micro_batch is None else min(self.micro_batch, self.batch_size)

    def within(self, size: Footprint, limit_bytes: int) -> ScoreSettings:
        """Return settings by which units of the full-width blocks ``size`` are scored within ``limit_bytes``.

        ``ConfigError`` if not even one sample at a time fits.
        """
        held = self.held_samples
        if size.scoring_bytes(held) <= limit_bytes:
            return self
        fitting = (limit_bytes - size.scoring_bytes(0)) // size.scoring.held_bytes
        if held == 0 or fitting < 1:
            raise ConfigError(
                f"scoring {size.depth} blocks at full width takes {size.scoring_bytes(min(held, 1))} bytes even one "
                f"sample at a time, there are {limit_bytes}: take a smaller model, fewer blocks (a higher depth_share) "
                "or units that need no scores"
            )
        return replace(self, micro_batch=int(fitting))


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
    scoring: Optional[ScoreSettings] = None
    split: str = ""
    first: int = 0
    last: int = 0

    @cached_property
    def size(self) -> Footprint:
        """What the plan's submodel costs; kept, because a fleet's every task asks for it many times."""
        return footprint(self.shape, self.plan.counts)

    @property
    def parameters(self) -> int:
        return self.size.parameters

    @cached_property
    def download_bytes(self) -> int:
        """Payload of the instruction: float32 weights and the plan."""
        return 4 * self.parameters + wire_bytes(self.shape.sizes, self.plan.depth)

    @property
    def upload_bytes(self) -> int:
        """Payload of the reply: the float32 weight change, or the float32 scores."""
        if self.kind == "train":
            return 4 * self.parameters
        return 4 * self.plan.depth * sum(self.shape.sizes.of(group) for group in GROUPS)

    @property
    def peak_memory_bytes(self) -> int:
        """Memory that the task needs at its peak, as predicted."""
        size = self.size
        if self.kind == "train":
            return size.training_bytes(self.training.batch_size, self.training.optimizer)
        if self.kind == "score":
            return size.scoring_bytes(self.scoring.held_samples if self.scoring else 1)
        return size.evaluation_bytes(self.judging_batch)

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
        value = asdict(replace(self, plan=None))  # type: ignore[arg-type]  # asdict would copy every index of the plan
        value["plan"] = base64.b64encode(self.plan.to_bytes(self.shape.sizes)).decode()
        return json.dumps(value, sort_keys=True)

    @staticmethod
    def from_json(text: str) -> Task:
        value: Dict[str, Any] = json.loads(text)
        shape = shape_from_json(value["shape"])
        scoring = value["scoring"]
        return Task(
            **{
                **value,
                "shape": shape,
                "plan": SubmodelPlan.from_bytes(base64.b64decode(value["plan"]), shape.sizes),
                "training": TrainSettings(**value["training"]),
                "transfer": TransferSettings(**value["transfer"]),
                "scoring": None if scoring is None else ScoreSettings(**scoring),
            }
        )
