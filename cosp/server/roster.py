"""Who can be sent a task now. Kept up to date client by client, so that a fleet of thousands is never searched."""

from __future__ import annotations

import heapq
import math
from collections.abc import Collection, Iterable, Mapping


class Roster:
    """Clients without a task. Who has trained least goes first, ties by number: a limit on how many work at a time
    must not leave the last of the list idle for ever.
    """

    def __init__(self, nodes: Mapping[int, int]) -> None:
        self._nodes = {client: node for node, client in nodes.items()}
        self._waiting: list[tuple[int, int]] = []
        """(training tasks so far, client), a heap."""
        self._away: list[tuple[int, int]] = []
        """Those whose turn came while their node was not connected."""
        self._listed: set[int] = set()
        """All of those: nobody is listed twice."""
        self._resting: set[int] = set()
        self._gone: set[int] = set()
        self._connected: frozenset[int] | None = None

    def wait(self, client: int, *, dispatches: int) -> None:
        """``client`` may be sent a task, unless it rests; ``dispatches`` is how often it was sent one to train."""
        if client not in self._listed and client not in self._resting and client not in self._gone:
            self._listed.add(client)
            heapq.heappush(self._waiting, (dispatches, client))

    def join(self, node: int, client: int) -> None:
        """``client`` takes part from now on; it may be sent a task once it waits."""
        self._nodes[client] = node

    def leave(self, client: int) -> None:
        """``client`` gets nothing any more."""
        self._resting.discard(client)
        self._gone.add(client)

    def rest(self, client: int) -> None:
        """``client`` gets nothing before ``wake``."""
        self._resting.add(client)

    def wake(self) -> set[int]:
        """End all rest; return those who rested."""
        rested, self._resting = self._resting, set()
        return rested

    def take(self, connected: Iterable[int], most: float = math.inf) -> list[tuple[int, int]]:
        """Remove and return (node, client) of up to ``most`` waiting clients that are connected, in client order."""
        here = self._look(connected)
        taken: list[tuple[int, int]] = []
        while self._waiting and len(taken) < most:
            entry = heapq.heappop(self._waiting)
            client = entry[1]
            if client in self._gone:
                self._listed.discard(client)
            elif self._nodes[client] in here:
                taken.append((self._nodes[client], client))
                self._listed.remove(client)
            else:
                self._away.append(entry)
        return sorted(taken, key=lambda pair: pair[1])

    def _look(self, connected: Iterable[int]) -> Collection[int]:
        """Return the connected nodes as a set. Who was away waits again, if the set can be another than last time."""
        same = connected is self._connected  # a frozen set cannot have changed
        if not same:
            connected = frozenset(connected)
            self._connected = connected
            for entry in self._away:
                heapq.heappush(self._waiting, entry)
            self._away.clear()
        assert self._connected is not None
        return self._connected
