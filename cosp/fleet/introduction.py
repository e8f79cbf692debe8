"""What a client says of itself; apart from the rest, because a ClientApp on a board has no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from cosp.fleet.speed import Speed
from cosp.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a client can afford, by its own account. Any reply may bring a new one; it holds from the next task on."""

    keep: float | None
    memory_bytes: int
    speed: Speed | None

    def __post_init__(self) -> None:
        if self.keep is not None and not 0 < self.keep <= 1:
            raise ValueError(f"budget: keep must be in (0, 1] or None, got {self.keep}")
        if not 0 <= self.memory_bytes < math.inf:
            raise ValueError(f"budget: memory_bytes must be finite and >= 0, got {self.memory_bytes}")

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Budget:
        """Undo ``dataclasses.asdict``; KeyError, TypeError or ValueError if it is not a budget."""
        speed = value["speed"]
        return Budget(**{**value, "speed": None if speed is None else Speed.from_json(speed)})


@dataclass(frozen=True, kw_only=True)
class Introduction:
    """What a client says of itself when it joins. ``keep`` None asks for as much as ``memory_bytes`` holds.

    ``speed``: what it declares of its speed, which a server needs only to keep a target round time.
    """

    client: int
    board: str
    link: str
    keep: float | None
    memory_bytes: int
    samples: int
    test_samples: int
    class_counts: tuple[int, ...]
    idle_w: float = 0.0
    speed: Speed | None = None
    gpu: bool = False
    """It trains on a GPU, so in mixed precision where the run asks for it."""
    recipe: Recipe | None = None
    """How its data were made; None for a client of this process, whose data are the server's."""
    words: tuple[int, ...] | None = None
    """Which rows of the word table its texts use, ascending, where the run asks; None: it holds all."""
    keeps_frozen: bool = False
    """It keeps frozen tensors from task to task, so they are sent to it once."""

    @property
    def budget(self) -> Budget:
        return Budget(keep=self.keep, memory_bytes=self.memory_bytes, speed=self.speed)

    def with_budget(self, budget: Budget) -> Introduction:
        return replace(self, **vars(budget))
