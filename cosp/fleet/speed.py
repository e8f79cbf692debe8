"""What a client declares of its speed: all that the time of a task depends on, and nothing else of its board."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cosp.fleet.board import Board
from cosp.fleet.links import Link


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Figures of the cost model; a measured profile and a measured link give the same ones."""

    flops_per_s: float
    half_batch: float
    memory_bytes_per_s: float
    launch_s: float
    overlap: bool
    slowdown: float
    link: Link
    half_flops_per_s: float | None = None  # in mixed precision; None: it names none

    def __post_init__(self) -> None:
        for name in ("flops_per_s", "memory_bytes_per_s", "slowdown"):
            if not 0 < (value := getattr(self, name)) < math.inf:
                raise ValueError(f"speed: {name} must be finite and > 0, got {value}")
        if self.half_flops_per_s is not None and not 0 < self.half_flops_per_s < math.inf:
            raise ValueError(f"speed: half_flops_per_s must be finite and > 0 or None, got {self.half_flops_per_s}")
        for name in ("half_batch", "launch_s"):
            if not 0 <= (value := getattr(self, name)) < math.inf:
                raise ValueError(f"speed: {name} must be finite and >= 0, got {value}")

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Speed:
        """Undo ``dataclasses.asdict``; KeyError, TypeError or ValueError if it is not a speed."""
        return Speed(**{**value, "link": Link(**value["link"])})


def speed_of(board: Board) -> Speed:
    """Return what a simulated board declares: what it is simulated with."""
    profile = board.profile
    return Speed(
        flops_per_s=profile.flops_per_s,
        half_batch=profile.half_batch,
        memory_bytes_per_s=profile.memory_bytes_per_s,
        launch_s=profile.launch_s,
        overlap=profile.overlap,
        slowdown=board.slowdown,
        link=board.link,
        half_flops_per_s=profile.half_flops_per_s,
    )
