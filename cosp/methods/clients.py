"""What the server knows of each client."""

from __future__ import annotations

from dataclasses import dataclass

from cosp.errors import ConfigError
from cosp.fleet.board import Board
from cosp.fleet.introduction import Budget, Introduction
from cosp.fleet.speed import speed_of
from cosp.submodel.footprint import Footprint
from cosp.submodel.selection import Scores
from cosp.task.scoring import ScoreSettings

__all__ = ["Budget", "ClientRecord", "Introduction", "budget_of", "scoring_within_memory"]


def budget_of(board: Board) -> Budget:
    """Return what a simulated board can afford."""
    return Budget(keep=board.keep, memory_bytes=int(board.profile.memory_bytes), speed=speed_of(board))


@dataclass
class ClientRecord:
    """A client's introduction and what has happened to it since."""

    introduction: Introduction
    tasks: int = 0
    """Tasks of any kind that it was given; keys their chance events, so that a repeated task may fare better."""
    dispatches: int = 0
    """Training tasks that it was given: the turn of its rolling windows."""
    last_version: int = -1
    merged_at: int = 0
    """Version that its last merged update went into."""
    version: int = 0
    """The model's version as its next task is made; not part of a checkpoint."""
    scores: Scores | None = None
    scored_at: int = 0
    """Value of ``dispatches`` when the scores were made."""
    claimed_samples: int | None = None
    """What it introduced itself with, where its introduction counts fewer."""
    kept: frozenset[str] = frozenset()
    """Contents of the frozen tensors that it has from the last task that it replied to."""
    sits_out: str | None = None
    """Why it is given no tasks: what it can afford now holds no submodel."""

    @property
    def client(self) -> int:
        return self.introduction.client


def scoring_within_memory(
    client: Introduction, scoring: ScoreSettings | None, blocks: Footprint, limit_bytes: int
) -> ScoreSettings | None:
    """Return how ``client`` scores full-width ``blocks`` within its memory, and ``limit_bytes`` if that is less;
    ConfigError names it if it cannot.
    """
    try:
        return scoring and scoring.within(blocks, min(client.memory_bytes, limit_bytes))
    except ConfigError as error:
        raise ConfigError(f"client {client.client} ({client.board}): {error}") from None
