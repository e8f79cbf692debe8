"""How a client scores units, and what that costs it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Optional

from cosp.amounts import amount
from cosp.errors import ConfigError
from cosp.submodel.footprint import Footprint, Step
from cosp.submodel.passes import FLOAT_BYTES

SCORES = ("taylor", "gates", "magnitude", "squared_gradient")


@dataclass(frozen=True)
class ScoreSettings:
    """How a client scores units; ``samples`` bounds the data read in a pass.

    A batch is what a score is measured on. It is read ``micro_batch`` samples at a time (None: at once), which the
    server sets where a board's memory asks for it; scores do not depend on it but for float rounding.
    """

    __pydantic_config__ = {"extra": "forbid", "allow_inf_nan": False}  # a misspelt key in a config is an error

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

    def step(self, size: Footprint, batch: int) -> Step:
        """Return what one pass over ``batch`` samples asks of a board."""
        return size.forward_backward(batch) if self.how == "squared_gradient" else size.scoring_step(batch)

    def peak_bytes(self, size: Footprint, held: int) -> int:
        """Return peak memory with ``held`` samples at a time; squared gradients need those of all weights."""
        if self.how != "squared_gradient":
            return size.scoring_bytes(held)
        gradients = FLOAT_BYTES * size.parameters + size.training.workspace_bytes
        return size.scoring_bytes(0) + gradients + held * size.training.held_bytes

    def within(self, size: Footprint, limit_bytes: int) -> ScoreSettings:
        """Return settings by which units of the full-width blocks ``size`` are scored within ``limit_bytes``.

        ``ConfigError`` if not even one sample at a time fits.
        """
        held = self.held_samples
        if self.peak_bytes(size, held) <= limit_bytes:
            return self
        least = self.peak_bytes(size, 0)
        fitting = (limit_bytes - least) // (self.peak_bytes(size, 1) - least)
        if held == 0 or fitting < 1:
            raise ConfigError(
                f"scoring {size.depth} blocks at full width takes "
                f"{amount(self.peak_bytes(size, min(held, 1)), 'bytes')} even one sample at a time, there are "
                f"{amount(limit_bytes, 'bytes')}: take a smaller model, fewer blocks (a higher depth_share) or units "
                "that need no scores"
            )
        return replace(self, micro_batch=int(fitting))
