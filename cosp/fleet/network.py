"""The server's own link, shared by all transfers under way: max-min fair, exact in virtual time.

Each transfer gets the smaller of its own link's rate and a fair level; the level is as high as the capacity allows.
Rates change only when a transfer starts or ends, so between those moments everything moves in straight lines.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cosp.fleet.timeline import Timeline


@dataclass(frozen=True, kw_only=True)
class ServerLink:
    """What the server can send to all boards together, and receive from them; infinity never binds."""

    send_bytes_per_s: float = math.inf
    receive_bytes_per_s: float = math.inf

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise ValueError(f"server link: {name} must be > 0, got {value}")


def fair_rates(limits: np.ndarray, capacity: float) -> np.ndarray:
    """Share ``capacity`` among transfers that can take ``limits`` each, max-min fair: ``min(limit, level)``.

    The level is the one at which the shares add up to the capacity; without shortage everyone gets its limit.
    """
    if not len(limits):
        return limits
    ascending = np.sort(limits)
    before = np.concatenate(([0.0], np.cumsum(ascending)[:-1]))  # what the slower ones take in full
    levels = (capacity - before) / np.arange(len(limits), 0, -1)  # what is left, over those who are left
    short = np.flatnonzero(ascending > levels)
    return np.minimum(limits, levels[short[0]]) if len(short) else limits


class SharedLink:
    """One direction of the server's link. A client has at most one transfer in it.

    ``limits[client]``: rate of the client's own link. ``on_end(client)`` runs when its last byte is through.
    """

    def __init__(
        self, timeline: Timeline, capacity: float, limits: Sequence[float], on_end: Callable[[int], None]
    ) -> None:
        self._timeline, self._capacity, self._on_end = timeline, capacity, on_end
        self._limits = np.array(limits, dtype=np.float64)
        self._left_bytes = np.zeros(len(limits))
        self._rates = np.zeros(len(limits))
        self._ends_s = np.full(len(limits), math.inf)  # as planned; infinity: not planned yet, or no transfer
        self._moving = np.zeros(len(limits), dtype=bool)
        self._since_s = 0.0  # when ``_left_bytes`` was true
        self._replan: int | None = None  # ticket: rates are set anew, at this moment
        self._first: int | None = None  # ticket: the first transfer ends

    def join(self, client: int, payload_bytes: float) -> None:
        """Start a transfer now."""
        self._settle()
        self._left_bytes[client], self._moving[client] = payload_bytes, True
        self._plan_soon()

    def leave(self, client: int) -> float:
        """Give a transfer up and return the bytes that were left."""
        self._settle()
        left_bytes = float(self._left_bytes[client])
        self._remove([client])
        self._plan_soon()
        return left_bytes

    def state(self) -> dict[str, object]:
        """Return what ``restore`` needs, as JSON values; nothing is rounded, so the run goes on to the same bits."""
        moving = np.flatnonzero(self._moving)
        return {"since_s": self._since_s, "left_bytes": {str(c): float(self._left_bytes[c]) for c in moving}}

    def restore(self, since_s: float, left_bytes: dict[str, float]) -> None:
        self._since_s = since_s
        for client, left in left_bytes.items():
            self._left_bytes[int(client)], self._moving[int(client)] = left, True
        self._plan()

    def _settle(self) -> None:
        """Move all transfers on to now. One whose planned end has come is through, whatever rounding says."""
        now_s = self._timeline.now_s
        if now_s > self._since_s:
            self._left_bytes = np.maximum(self._left_bytes - self._rates * (now_s - self._since_s), 0.0)
            self._left_bytes[self._ends_s <= now_s] = 0.0
            self._since_s = now_s

    def _plan_soon(self) -> None:
        """Plan once for all transfers that start or stop at this moment."""
        if self._replan is None:
            self._replan = self._timeline.after(0.0, self._plan)

    def _plan(self) -> None:
        """Set rates and ends as of ``_since_s`` and wait for the first end."""
        self._replan = None
        if self._first is not None:
            self._timeline.cancel(self._first)
            self._first = None
        moving = np.flatnonzero(self._moving)
        if not len(moving):
            return
        self._rates[moving] = fair_rates(self._limits[moving], self._capacity)
        self._ends_s[moving] = self._since_s + self._left_bytes[moving] / self._rates[moving]
        first_s = float(self._ends_s[moving].min())
        self._first = self._timeline.at(max(first_s, self._timeline.now_s), self._end)

    def _end(self) -> None:
        self._first = None
        self._settle()
        ended = [int(client) for client in np.flatnonzero(self._ends_s <= self._timeline.now_s)]
        self._remove(ended)
        self._plan_soon()
        for client in ended:
            self._on_end(client)

    def _remove(self, clients: list[int]) -> None:
        self._left_bytes[clients] = self._rates[clients] = 0.0
        self._ends_s[clients], self._moving[clients] = math.inf, False
