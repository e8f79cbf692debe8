"""The virtual clock: what happens when, without waiting for it."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable


class Timeline:
    """Virtual clock: actions run in time order, ties in scheduling order.

    Time moves only by running actions, and never back. An action may schedule further ones, also at the present moment.
    """

    def __init__(self) -> None:
        self.now_s = 0.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._tickets = itertools.count()
        self._pending: set[int] = set()
        """Tickets of what has neither run nor been cancelled."""

    @property
    def next_s(self) -> float:
        """When the next action is due; infinity when none is."""
        while self._due and self._due[0][1] not in self._pending:
            heapq.heappop(self._due)
        return self._due[0][0] if self._due else math.inf

    def after(self, delay_s: float, action: Callable[[], None]) -> int:
        """Run ``action`` once, ``delay_s`` from now; ValueError unless that is finite and >= 0. Return its ticket."""
        if not 0 <= delay_s < math.inf:  # also refuses NaN, which would corrupt the heap
            raise ValueError(f"delay_s must be finite and >= 0, got {delay_s}")
        return self.at(self.now_s + delay_s, action)

    def at(self, time_s: float, action: Callable[[], None]) -> int:
        """Run ``action`` once at ``time_s``; ValueError unless that is finite and not past. Return its ticket."""
        if not self.now_s <= time_s < math.inf:
            raise ValueError(f"time_s must be finite and >= now ({self.now_s}), got {time_s}")
        ticket = next(self._tickets)
        heapq.heappush(self._due, (time_s, ticket, action))
        self._pending.add(ticket)
        return ticket

    def cancel(self, ticket: int) -> None:
        """Take back an action; time does not stop at it. Nothing happens if it has run."""
        self._pending.discard(ticket)

    def step(self, until_s: float = math.inf) -> bool:
        """Jump to the next action and run it; False when none is due by ``until_s``."""
        next_s = self.next_s
        if next_s > until_s or next_s == math.inf:
            return False
        self.now_s, ticket, action = heapq.heappop(self._due)
        self._pending.discard(ticket)
        action()
        return True

    def run(self, until_s: float = math.inf) -> None:
        """Run all that is due up to and at ``until_s``; ``now_s`` stays at the last action that ran."""
        if math.isnan(until_s):
            raise ValueError("until_s must be a time, got nan")
        while self.step(until_s):
            pass
