"""Nodes and the clients that they are, as arrays: of a million enrolled boards none is an object."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cosp.fleet.introduction import Introduction


class Nodes(Mapping[int, int]):
    """Node -> client, in client order. Flower numbers nodes with 64 bits and no sign."""

    def __init__(self, nodes: NDArray[Any], clients: NDArray[np.int64]) -> None:
        order = np.argsort(clients, kind="stable")
        self.nodes, self.clients = nodes.astype(np.uint64)[order], clients[order]
        self._by_node = np.argsort(self.nodes, kind="stable")

    @staticmethod
    def of(pairs: Mapping[int, int]) -> Nodes:
        return Nodes(
            np.fromiter(pairs.keys(), np.uint64, len(pairs)), np.fromiter(pairs.values(), np.int64, len(pairs))
        )

    def only(self, wanted: NDArray[np.bool_]) -> Nodes:
        """Return those of the clients, in their order, of which ``wanted`` is true."""
        return Nodes(self.nodes[wanted], self.clients[wanted])

    def join(self, node: int, client: int) -> None:
        """Add a node and the client that it is."""
        place = int(np.searchsorted(self.clients, client))
        self.nodes, self.clients = np.insert(self.nodes, place, np.uint64(node)), np.insert(self.clients, place, client)
        self._by_node = np.argsort(self.nodes, kind="stable")

    def has(self, client: int) -> bool:
        place = int(np.searchsorted(self.clients, client))
        return place < len(self.clients) and bool(self.clients[place] == client)

    def node_of(self, client: int) -> int:
        """Return the node of ``client``; KeyError if it has none."""
        if not self.has(client):
            raise KeyError(client)
        return int(self.nodes[np.searchsorted(self.clients, client)])

    def __getitem__(self, node: int) -> int:
        place = int(np.searchsorted(self.nodes, np.uint64(node), sorter=self._by_node))
        if place == len(self.nodes) or self.nodes[self._by_node[place]] != node:
            raise KeyError(node)
        return int(self.clients[self._by_node[place]])

    def __iter__(self) -> Iterator[int]:
        return iter(self.nodes.tolist())

    def __len__(self) -> int:
        return len(self.nodes)


@dataclass(frozen=True)
class Guests:
    """Who takes part: by node, and what each said of itself, in client order."""

    nodes: Nodes
    clients: Sequence[Introduction]


class NodesOn(Set[int]):
    """The nodes ``first``, ``first + 1``, ... that are on: all, until one is said to be off. It changes in place, and
    remembers who came on until somebody has asked.
    """

    def __init__(self, first: int, count: int) -> None:
        self._first = first
        self._on = np.ones(count, bool)
        self._count = count
        self._came: list[int] = []

    def set(self, place: int, on: bool) -> None:
        if on != self._on[place]:
            self._on[place] = on
            self._count += 1 if on else -1
            if on:
                self._came.append(self._first + place)

    def came(self) -> list[int]:
        """Return the nodes that came on since this was last asked, some of which may be off again."""
        came, self._came = self._came, []
        return came

    def __contains__(self, node: object) -> bool:
        place = int(node) - self._first if isinstance(node, int) else -1
        return 0 <= place < len(self._on) and bool(self._on[place])

    def __iter__(self) -> Iterator[int]:
        return iter((self._first + np.flatnonzero(self._on)).tolist())

    def __len__(self) -> int:
        return self._count


def set_of(nodes: Iterable[int]) -> Set[int]:
    return nodes if isinstance(nodes, Set) else frozenset(nodes)
