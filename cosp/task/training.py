"""How a client trains locally, as values that travel with a task."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Dict, Optional, Tuple, Union

from cosp.submodel.frozen import FORMATS, Frozen, canonical, frozen_of
from cosp.submodel.passes import PRECISIONS
from cosp.task.privacy import PrivacySettings

OPTIMIZERS = ("adamw", "sgd")


@dataclass(frozen=True)
class TrainSettings:
    """How a client trains between receiving a submodel and sending its update."""

    __pydantic_config__ = {"extra": "forbid", "allow_inf_nan": False}  # a misspelt key in a config is an error

    epochs: int = 3
    batch_size: int = 32
    optimizer: str = "adamw"
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    momentum: float = 0.9
    clip_norm: Optional[float] = 1.0
    precision: str = "float32"
    """"float32", or "mixed": autocast, on a GPU. A CPU trains in float32 whatever is asked."""
    privacy: Optional[PrivacySettings] = None
    """How the update is protected before it leaves the board; None: it is sent as it is."""
    frozen: Tuple[Union[str, Dict[str, int]], ...] = ()
    """Parts that are not trained, ``{"blocks": 2}`` or "blocks: 2"; see ``cosp.submodel.frozen``."""
    frozen_as: str = "float32"
    """Number format in which boards hold what is frozen, receive it and compute with it."""
    checkpointing: bool = False
    """Blocks keep no activations and are computed once more in the backward pass; see ``cosp.models.recomputed``."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "frozen", canonical(self.frozen))
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer must be one of {OPTIMIZERS}, got {self.optimizer!r}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {PRECISIONS}, got {self.precision!r}")
        if self.frozen_as not in FORMATS:
            raise ValueError(f"frozen_as must be one of {tuple(FORMATS)}, got {self.frozen_as!r}")
        if self.frozen_as != "float32" and self.precision == "mixed":
            raise ValueError(f"frozen_as {self.frozen_as} goes with precision float32: mixed makes halves of its own")
        for name in ("epochs", "batch_size"):
            if not getattr(self, name) >= 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}")
        for name in ("learning_rate", "clip_norm"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be > 0, got {value}")
        if not self.weight_decay >= 0:
            raise ValueError(f"weight_decay must be >= 0, got {self.weight_decay}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must lie in [0, 1), got {self.momentum}")

    @property
    def left(self) -> Frozen:
        """What training leaves as it is."""
        return frozen_of(self.frozen, self.frozen_as)  # type: ignore[arg-type]  # canonical by now

    def on(self, gpu: bool) -> TrainSettings:
        """Return the settings as a board keeps them that trains on a GPU, or on its CPU."""
        return self if gpu or self.precision == "float32" else replace(self, precision="float32")

    def steps(self, samples: int) -> int:
        """Return the number of optimizer steps for ``samples`` training samples."""
        return self.epochs * math.ceil(samples / self.batch_size)
