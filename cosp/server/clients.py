"""What the server knows of each client."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from cosp.client.task import ScoreSettings
from cosp.errors import ConfigError
from cosp.fleet.fleet import Board
from cosp.fleet.speed import Speed, speed_of
from cosp.submodel.footprint import Footprint
from cosp.submodel.selection import Scores


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


def budget_of(board: Board) -> Budget:
    """Return what a simulated board can afford."""
    return Budget(keep=board.keep, memory_bytes=int(board.profile.memory_bytes), speed=speed_of(board))


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

    @property
    def budget(self) -> Budget:
        return Budget(keep=self.keep, memory_bytes=self.memory_bytes, speed=self.speed)

    def with_budget(self, budget: Budget) -> Introduction:
        return replace(self, **vars(budget))


@dataclass
class ClientRecord:
    """A client's introduction and what has happened to it since."""

    introduction: Introduction
    tasks: int = 0
    """Tasks of any kind that it was given; keys their chance events, so that a repeated task may fare better."""
    dispatches: int = 0
    """Training tasks that it was given: the turn of its rolling windows."""
    last_version: int = -1
    scores: Scores | None = None
    scored_at: int = 0
    """Value of ``dispatches`` when the scores were made."""
    sits_out: str | None = None
    """Why it is given no tasks: what it can afford now holds no submodel."""

    @property
    def client(self) -> int:
        return self.introduction.client


def scoring_within_memory(
    client: Introduction, scoring: ScoreSettings | None, blocks: Footprint
) -> ScoreSettings | None:
    """Return how ``client`` scores full-width ``blocks`` within its memory; ConfigError names it if it cannot."""
    try:
        return scoring and scoring.within(blocks, client.memory_bytes)
    except ConfigError as error:
        raise ConfigError(f"client {client.client} ({client.board}): {error}") from None
