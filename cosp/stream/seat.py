"""One board that serves: what it answers with, what has come to it and was not reported yet."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cosp.adaptation.kept import Keep, Take
from cosp.fleet.board import Board
from cosp.stream.arrivals import Arrivals
from cosp.submodel.plan import SubmodelPlan

SAVED = ("busy", "asked", "window", "turn", "offered", "_reported", "_reported_s", "_missed")
"""What a checkpoint holds beside the sets that it answers with and when it was off."""


@dataclass(frozen=True, kw_only=True)
class Answering:
    """From ``since_s`` on a board answers with ``weights``, which are ``version``."""

    since_s: float
    version: int
    weights: Tensor


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Samples ``first:last`` of what comes to a board, answered with one set."""

    first: int
    last: int
    by: Answering


class Seat:
    """A board of a stream; ``first`` is where what comes to it begins among all samples. ``exit``: whose answers count,
    as an index into those of ``plan``.
    """

    def __init__(
        self, *, board: Board, plan: SubmodelPlan, exit: int, coming: Arrivals, first: int, weights: Tensor
    ) -> None:
        self.client = board.client
        self.board, self.plan, self.exit, self.coming, self.first = board, plan, exit, coming, first
        self.answering = [Answering(since_s=0.0, version=0, weights=weights)]
        self.busy = False
        self.asked = False
        """Whether a window has ended that it was not asked about yet."""
        self.window = 0
        """The last window that ended."""
        self.turn = 0
        """How often it has been sent or asked something."""
        self.offered = 0
        """The version that it was last offered."""
        self._reported = 0
        self._reported_s = 0.0
        self._missed = 0
        self._off: list[tuple[float, float]] = []

    @property
    def version(self) -> int:
        return self.answering[-1].version

    def state(self, keep: Keep) -> dict[str, Any]:
        """Return where the board stands, as JSON values."""
        answering = [[one.since_s, one.version, keep(one.weights.numpy())] for one in self.answering]
        return {"answering": answering, "off": self._off, **{name: getattr(self, name) for name in SAVED}}

    def restore(self, state: Mapping[str, Any], take: Take) -> None:
        """Undo ``state``."""
        self.answering = [
            Answering(since_s=since_s, version=version, weights=torch.from_numpy(take(key)))
            for since_s, version, key in state["answering"]
        ]
        self._off = [(from_s, to_s) for from_s, to_s in state["off"]]
        for name in SAVED:
            setattr(self, name, state[name])

    def take(self, now_s: float, version: int, weights: Tensor) -> None:
        """Answer with other weights from now on."""
        self.answering.append(Answering(since_s=now_s, version=version, weights=weights))

    def turned(self, now_s: float, on: bool) -> None:
        """Note that the board has come on, or gone off: what comes meanwhile is not answered."""
        if not on:
            self._off.append((now_s, math.inf))
        elif self._off:
            self._off[-1] = self._off[-1][0], now_s

    def due(self, now_s: float) -> tuple[list[Piece], int, float]:
        """Return what came and was answered since the last call that found something, how many samples were missed,
        and when that was.
        """
        times_s = self.coming.times_s
        last = int(np.searchsorted(times_s, now_s, side="left"))
        rows = np.arange(self._reported, last)
        missed = np.zeros(len(rows), bool)
        for from_s, to_s in self._off:
            missed |= (times_s[rows] >= from_s) & (times_s[rows] < to_s)
        found = list(self._pieces(rows[~missed]))
        self._reported, self._missed = last, self._missed + int(missed.sum())
        del self.answering[:-1]  # what comes from now on is answered with the last
        self._off = [span for span in self._off if span[1] == math.inf]
        told = found, self._missed, self._reported_s
        if found:
            self._missed, self._reported_s = 0, now_s
        return told

    def _pieces(self, rows: NDArray[np.int64]) -> Iterator[Piece]:
        """Yield runs of rows that one set answers."""
        if not len(rows):
            return
        starts_s = [one.since_s for one in self.answering]
        by = np.searchsorted(starts_s, self.coming.times_s[rows], side="right") - 1
        breaks = np.flatnonzero((np.diff(rows) != 1) | (np.diff(by) != 0)) + 1
        for run in np.split(np.arange(len(rows)), breaks):
            yield Piece(first=int(rows[run[0]]), last=int(rows[run[-1]]) + 1, by=self.answering[max(0, by[run[0]])])
