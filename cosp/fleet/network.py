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


ROW = np.dtype([
    ("client", np.int64), ("limit", np.float64), ("left_bytes", np.float64), ("since_s", np.float64),
    ("rate", np.float64), ("ends_s", np.float64),
])  # fmt: skip
"""Of a transfer. ``since_s``: when ``left_bytes`` was true. ``ends_s``, as planned: infinity before that, and in a
place that nobody has.
"""


class SharedLink:
    """One direction of the server's link. A client has at most one transfer in it.

    ``limits[client]``: rate of the client's own link, looked up as a transfer starts. ``on_end(client)`` runs when its
    last byte is through.

    While there is room for all limits, a transfer changes nobody else's rate, so its coming and going costs the same
    however many others there are. Only in a shortage are all transfers planned anew.
    """

    def __init__(
        self, timeline: Timeline, capacity: float, limits: Sequence[float], on_end: Callable[[int], None]
    ) -> None:
        self._timeline, self._capacity, self._limits, self._on_end = timeline, capacity, limits, on_end
        self._asked = 0  # by those who move, in whole numbers: their sum is exact in any order
        self._ample = True
        self._places: dict[int, int] = {}  # of those who move, in the table
        self._free: list[int] = []
        self._table = np.empty(0, ROW)
        self._due: list[tuple[float, int]] = []  # heap of (end, client) while there is room; may hold past plans
        self._replan: int | None = None  # ticket: rates are set anew, at this moment
        self._first: tuple[float, int] | None = None  # when the first transfer ends, ticket

    def join(self, client: int, payload_bytes: float) -> None:
        """Start a transfer now."""
        self._put(client, payload_bytes, self._timeline.now_s)
        if self._ample and self._asked <= self._capacity:
            self._go(self._places[client])
            self._await_first()
        else:
            self._plan_soon()

    def leave(self, client: int) -> float:
        """Give a transfer up and return the bytes that were left."""
        place = self._places[client]
        self._settle(np.array([place]))
        left_bytes = float(self._table["left_bytes"][place])
        self._remove([client])
        return left_bytes

    def state(self) -> dict[str, object]:
        """Return what ``restore`` needs, as JSON values; nothing is rounded, so the run goes on to the same bits."""
        left_bytes, since_s = self._table["left_bytes"], self._table["since_s"]
        moving = sorted(self._places.items())
        return {"moving": {str(c): [float(left_bytes[place]), float(since_s[place])] for c, place in moving}}

    def restore(self, moving: dict[str, tuple[float, float]]) -> None:
        for client, (left_bytes, since_s) in moving.items():
            self._put(int(client), left_bytes, since_s)
        self._set_rates()

    def _put(self, client: int, left_bytes: float, since_s: float) -> None:
        limit = self._limits[client]
        place = self._places[client] = self._place()
        self._table[place] = (client, limit, left_bytes, since_s, 0.0, math.inf)
        self._asked += math.ceil(limit)

    def _place(self) -> int:
        """Return a free place in the table, which grows with those who move at a time."""
        if not self._free:
            size = len(self._table)
            more = np.zeros(max(64, size), ROW)
            more["ends_s"] = math.inf
            self._table = np.concatenate([self._table, more])
            self._free = list(range(len(self._table) - 1, size - 1, -1))
        return self._free.pop()

    def _go(self, place: int) -> None:
        """Plan one transfer that has its own link's rate."""
        row = self._table[place]
        row["rate"] = row["limit"]
        row["ends_s"] = row["since_s"] + row["left_bytes"] / row["rate"]
        heapq.heappush(self._due, (float(row["ends_s"]), int(row["client"])))

    def _moving(self) -> np.ndarray:
        return np.fromiter(self._places.values(), np.int64, len(self._places))

    def _settle(self, places: np.ndarray) -> None:
        """Move transfers on to now. One whose planned end has come is through, whatever rounding says."""
        now_s, table = self._timeline.now_s, self._table
        moved = table["rate"][places] * (now_s - table["since_s"][places])
        left_bytes = np.maximum(table["left_bytes"][places] - moved, 0.0)
        table["left_bytes"][places] = np.where(table["ends_s"][places] <= now_s, 0.0, left_bytes)
        table["since_s"][places] = now_s

    def _plan_soon(self) -> None:
        """Plan once for all transfers that start or stop at this moment."""
        if self._replan is None:
            self._replan = self._timeline.after(0.0, self._plan)

    def _plan(self) -> None:
        self._replan = None
        self._settle(self._moving())
        self._set_rates()

    def _set_rates(self) -> None:
        """Plan all transfers, from what was left of each when it was last settled."""
        self._ample, self._due = self._asked <= self._capacity, []
        moving, table = self._moving(), self._table
        if self._ample:
            for place in moving.tolist():
                self._go(place)
        else:
            rates = fair_rates(table["limit"][moving], self._capacity)
            table["rate"][moving] = rates
            table["ends_s"][moving] = table["since_s"][moving] + table["left_bytes"][moving] / rates
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
            return float(self._table["ends_s"].min(initial=math.inf))
        while self._due and self._ends_s(self._due[0][1]) != self._due[0][0]:
            heapq.heappop(self._due)
        return self._due[0][0] if self._due else math.inf

    def _ends_s(self, client: int) -> float:
        place = self._places.get(client)
        return math.inf if place is None else float(self._table["ends_s"][place])

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
            return sorted(self._table["client"][np.flatnonzero(self._table["ends_s"] <= now_s)].tolist())
        while self._first_s() <= now_s:
            ended.add(heapq.heappop(self._due)[1])
        return sorted(ended)

    def _remove(self, clients: list[int]) -> None:
        for client in clients:
            place = self._places.pop(client)
            self._table["ends_s"][place] = math.inf
            self._free.append(place)
            self._asked -= math.ceil(self._limits[client])
        if self._ample:
            self._await_first()
        else:
            self._plan_soon()
