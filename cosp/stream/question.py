"""What is known of a real board of a stream, and what it was asked."""

from __future__ import annotations

from dataclasses import dataclass

from cosp.adaptation.acknowledged import Sent
from cosp.adaptation.asked import Ask
from cosp.adaptation.posted import MOST
from cosp.fleet.board import Board
from cosp.submodel.plan import SubmodelPlan


class Place:
    """A client of the stream, and of the board that is it what is known; ``node`` None: it has not been there yet."""

    def __init__(self, *, board: Board, plan: SubmodelPlan, exit: int, per_window: int) -> None:
        self.client, self.board, self.plan, self.exit = board.client, board, plan, exit
        self.most = max(1, min(MOST, per_window))
        """Samples that it answers of a window."""
        self.node: int | None = None
        self.recipe: str | None = None
        """The mark of what its samples were made by."""
        self.asked = False
        """Whether it is to be asked."""
        self.busy = False
        self.behind = 0
        """How many samples of its stream are behind it."""
        self.turn = 0
        self.offered = 0
        self.since_s = 0.0


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a board was asked at ``sent_s``, the set that went with it, if one did, and what that changes."""

    place: Place
    node: int
    ask: Ask
    sent: Sent | None
    base: int | None
    window: int
    sent_s: float

    @property
    def expected(self) -> int | None:
        """The version that the board is to have by then."""
        return self.base if self.sent is None else self.sent.after.version
