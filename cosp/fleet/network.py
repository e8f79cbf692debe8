"""The server's own link, shared by all transfers under way: max-min fair, exact in virtual time.

Each transfer gets the smaller of its own link's rate and a fair level; the level is as high as the capacity allows.
Rates change only when a transfer starts or ends, so between those moments everything moves in straight lines.
"""

from __future__ import annotations

import heapq
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

    While there is room for all limits, a transfer changes nobody else's rate, so its coming and going costs the same
    however many others there are. Only in a shortage are all transfers planned anew.
    """

    def __init__(
        self, timeline: Timeline, capacity: float, limits: Sequence[float], on_end: Callable[[int], None]
    ) -> None:
        self._timeline, self._capacity, self._on_end = timeline, capacity, on_end
        self._limits = np.array(limits, dtype=np.float64)
        self._room = [math.ceil(limit) for limit in limits]  # whole numbers: their sum is exact in any order
        self._asked = 0  # of those who move
        self._ample = True
        self._left_bytes = np.zeros(len(limits))
        self._since_s = np.zeros(len(limits))  # when ``_left_bytes`` was true
        self._rates = np.zeros(len(limits))
        self._ends_s = np.full(len(limits), math.inf)  # as planned; infinity: not planned yet, or no transfer
        self._moving = np.zeros(len(limits), dtype=bool)
        self._due: list[tuple[float, int]] = []  # heap of (end, client) while there is room; may hold past plans
        self._replan: int | None = None  # ticket: rates are set anew, at this moment
        self._first: tuple[float, int] | None = None  # when the first transfer ends, ticket

    def join(self, client: int, payload_bytes: float) -> None:
        """Start a transfer now."""
        self._put(client, payload_bytes, self._timeline.now_s)
        if self._ample and self._asked <= self._capacity:
            self._go(client)
            self._await_first()
        else:
            self._plan_soon()

    def leave(self, client: int) -> float:
        """Give a transfer up and return the bytes that were left."""
        self._settle(np.array([client]))
        left_bytes = float(self._left_bytes[client])
        self._remove([client])
        return left_bytes

    def state(self) -> dict[str, object]:
        """Return what ``restore`` needs, as JSON values; nothing is rounded, so the run goes on to the same bits."""
        moving = np.flatnonzero(self._moving)
        return {"moving": {str(c): [float(self._left_bytes[c]), float(self._since_s[c])] for c in moving}}

    def restore(self, moving: dict[str, tuple[float, float]]) -> None:
        for client, (left_bytes, since_s) in moving.items():
            self._put(int(client), left_bytes, since_s)
        self._set_rates()

    def _put(self, client: int, left_bytes: float, since_s: float) -> None:
        self._left_bytes[client], self._since_s[client], self._moving[client] = left_bytes, since_s, True
        self._asked += self._room[client]

    def _go(self, client: int) -> None:
        """Plan one transfer that has its own link's rate."""
        self._rates[client] = self._limits[client]
        self._ends_s[client] = self._since_s[client] + self._left_bytes[client] / self._rates[client]
        heapq.heappush(self._due, (float(self._ends_s[client]), client))

    def _settle(self, clients: np.ndarray) -> None:
        """Move transfers on to now. One whose planned end has come is through, whatever rounding says."""
        now_s = self._timeline.now_s
        moved = self._rates[clients] * (now_s - self._since_s[clients])
        left_bytes = np.maximum(self._left_bytes[clients] - moved, 0.0)
        self._left_bytes[clients] = np.where(self._ends_s[clients] <= now_s, 0.0, left_bytes)
        self._since_s[clients] = now_s

    def _plan_soon(self) -> None:
        """Plan once for all transfers that start or stop at this moment."""
        if self._replan is None:
            self._replan = self._timeline.after(0.0, self._plan)

    def _plan(self) -> None:
        self._replan = None
        self._settle(np.flatnonzero(self._moving))
        self._set_rates()

    def _set_rates(self) -> None:
        """Plan all transfers, from what was left of each when it was last settled."""
        self._ample, self._due = self._asked <= self._capacity, []
        moving = np.flatnonzero(self._moving)
        if self._ample:
            for client in moving.tolist():
                self._go(client)
        else:
            self._rates[moving] = fair_rates(self._limits[moving], self._capacity)
            self._ends_s[moving] = self._since_s[moving] + self._left_bytes[moving] / self._rates[moving]
        self._await_first()

    def _await_first(self) -> None:
        """Wait for the first end."""
        first_s = self._first_s()
        if self._first is not None:
            if self._first[0] == first_s:
                return
            self._timeline.cancel(self._first[1])
        at_s = max(first_s, self._timeline.now_s)
        self._first = None if first_s == math.inf else (first_s, self._timeline.at(at_s, self._end))

    def _first_s(self) -> float:
        if not self._ample:
            return float(self._ends_s.min())
        while self._due and self._ends_s[self._due[0][1]] != self._due[0][0]:
            heapq.heappop(self._due)
        return self._due[0][0] if self._due else math.inf

    def _end(self) -> None:
        self._first = None
        ended = self._ended()
        self._remove(ended)
        for client in ended:
            self._on_end(client)

    def _ended(self) -> list[int]:
        """Return the transfers whose end has come, in client order."""
        now_s, ended = self._timeline.now_s, set[int]()
        if not self._ample:
            return np.flatnonzero(self._ends_s <= now_s).tolist()
        while self._first_s() <= now_s:
            ended.add(heapq.heappop(self._due)[1])
        return sorted(ended)

    def _remove(self, clients: list[int]) -> None:
        self._left_bytes[clients] = self._rates[clients] = 0.0
        self._ends_s[clients], self._moving[clients] = math.inf, False
        self._asked -= sum(self._room[client] for client in clients)
        if self._ample:
            self._await_first()
        else:
            self._plan_soon()
