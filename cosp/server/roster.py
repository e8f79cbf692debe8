"""Who can be sent a task now. Kept up to date client by client, so that a fleet of a million is never searched."""

from __future__ import annotations

import heapq
import math
from collections.abc import Collection, Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from cosp.server.nodes import Nodes, NodesOn

Entry = tuple[int, int]
"""(training tasks so far, client): who has the least goes first."""


class Roster:
    """Clients without a task. Who has trained least goes first, ties by number: a limit on how many work at a time
    must not leave the last of the list idle for ever.
    """

    def __init__(self, nodes: Mapping[int, int]) -> None:
        self._nodes = nodes if isinstance(nodes, Nodes) else Nodes.of(nodes)
        self._fresh: NDArray[np.int64] = np.empty(0, np.int64)
        """Those who wait and were never sent a task to train, in client order, from ``_next`` on."""
        self._next = 0
        self._waiting: list[Entry] = []
        """The others who wait, a heap."""
        self._away: dict[int, Entry] = {}
        """By node, those whose turn came while it was not connected."""
        self._listed = np.zeros(1 + int(max(self._nodes.clients, default=0)), bool)
        """Whether a client is one of all those: nobody is listed twice."""
        self._resting: set[int] = set()
        self._gone: set[int] = set()
        self._connected: Collection[int] | None = None

    def begin(self, clients: NDArray[np.int64]) -> None:
        """All of ``clients``, in their order, may be sent a task, and none was ever sent one to train."""
        self._fresh, self._next = clients, 0
        self._listed[clients] = True

    def wait(self, client: int, *, dispatches: int) -> None:
        """``client`` may be sent a task, unless it rests; ``dispatches`` is how often it was sent one to train."""
        if not self._listed[client] and client not in self._resting and client not in self._gone:
            self._listed[client] = True
            heapq.heappush(self._waiting, (dispatches, client))

    def join(self, client: int) -> None:
        """``client``, one of the nodes by now, takes part from now on; it may be sent a task once it waits."""
        more = client + 1 - len(self._listed)
        if more > 0:
            self._listed = np.append(self._listed, np.zeros(more, bool))

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
        while len(taken) < most and (entry := self._pop()) is not None:
            client = entry[1]
            node = self._nodes.node_of(client)
            if client in self._gone:
                self._listed[client] = False
            elif node in here:
                taken.append((node, client))
                self._listed[client] = False
            else:
                self._away[node] = entry
        return sorted(taken, key=lambda pair: pair[1])

    def _pop(self) -> Entry | None:
        """Take out the first of those who wait, if there is one."""
        if self._next < len(self._fresh):
            fresh = 0, int(self._fresh[self._next])
            if not self._waiting or fresh < self._waiting[0]:
                self._next += 1
                return fresh
        return heapq.heappop(self._waiting) if self._waiting else None

    def _look(self, connected: Iterable[int]) -> Collection[int]:
        """Return the connected nodes as a set. Who was away and came back waits again."""
        if isinstance(connected, NodesOn):
            self._return(connected.came())
            return connected
        if connected is not self._connected or not isinstance(connected, frozenset):  # which cannot have changed
            self._connected = frozenset(connected)
            self._return([node for node in self._away if node in self._connected])
        assert self._connected is not None
        return self._connected

    def _return(self, nodes: Iterable[int]) -> None:
        for node in nodes:
            if node in self._away:
                heapq.heappush(self._waiting, self._away.pop(node))
