"""What the server knows of all its clients: a row of counters each, and an object for those at work."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from cosp.fleet.census import Census
from cosp.fleet.introduction import Introduction
from cosp.fleet.made import Made
from cosp.methods.clients import ClientRecord
from cosp.submodel.selection import Scores

COUNTERS = ("tasks", "dispatches", "last_version", "merged_at", "scored_at", "version")
KEPT = 4096
"""Records of clients not at work that stay objects."""
FRESH = (0, 0, -1, 0, 0, 0)


Layout = tuple[tuple[tuple[str, int], ...], ...]
"""Of each block, its groups and how many units they have."""
Packed = tuple[Layout, np.ndarray]
Value = TypeVar("Value")


class Records(Mapping[int, ClientRecord]):
    """Client -> its record, in client order. ``put_away`` lets a record that nobody holds become its row again."""

    def __init__(self, clients: Sequence[Introduction]) -> None:
        self._clients = clients
        self._places: range | dict[int, int] = range(len(clients))
        if not isinstance(clients, Made):  # whose clients are 0, 1, ...
            self._places = {client.client: place for place, client in enumerate(clients)}
        self._rows = np.tile(np.array(FRESH, np.int32), (len(clients), 1))
        self._objects: dict[int, ClientRecord] = {}
        self._idle: dict[int, None] = {}
        """Of those, who was put away, the longest ago first: they are rows as soon as there are too many."""
        self._scores: dict[int, Packed] = {}
        self._introductions: dict[int, Introduction] = {}
        """Of those who can afford something else than they said at first."""
        self._sits_out: dict[int, str] = {}
        self._kept: dict[int, frozenset[str]] = {}
        self._claimed_samples: dict[int, int] = {}
        """Of those who claimed more samples than their introductions count."""

    def __getitem__(self, client: int) -> ClientRecord:
        record = self._objects.get(client)
        self._idle.pop(client, None)
        if record is None:
            place = self.place_of(client)
            scores = self._scores.get(client)
            record = self._objects[client] = ClientRecord(
                introduction=self._introductions.get(client) or self._clients[place],
                scores=None if scores is None else unpacked(scores),
                claimed_samples=self._claimed_samples.get(client),
                sits_out=self._sits_out.get(client),
                kept=self._kept.get(client, frozenset()),
                **dict(zip(COUNTERS, self._rows[place].tolist(), strict=True)),
            )
        return record

    def __iter__(self) -> Iterator[int]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._clients)

    def add(self, introduction: Introduction) -> None:
        """Let one more client in, the last in their order; not where clients are made when they are asked for."""
        if not isinstance(self._places, dict):
            raise TypeError("clients that are made cannot be added to")
        self._places[introduction.client] = len(self._clients)
        self._clients = (*self._clients, introduction)
        self._rows = np.append(self._rows, np.array([FRESH], np.int32), axis=0)

    def note_claim(self, client: int, claimed: Mapping[str, Any]) -> None:
        """Take note of the ``samples`` in what ``client`` claims beyond its introduction, if they are."""
        if "samples" in claimed:
            self[client].claimed_samples = self._claimed_samples[client] = claimed["samples"]

    def introduce(self, client: int, introduction: Introduction) -> None:
        """Take note of what ``client`` says of itself from now on."""
        self[client].introduction = self._introductions[client] = introduction

    def put_away(self, client: int) -> None:
        """Keep no more of ``client`` than a row before long; who holds its record must ask for it again."""
        if client in self._objects:
            self._idle[client] = None
            if len(self._idle) > KEPT:
                self._to_row(next(iter(self._idle)))

    def _to_row(self, client: int) -> None:
        self._idle.pop(client, None)
        record = self._objects.pop(client)
        self._count(record)
        _put(self._scores, client, None if record.scores is None else packed(record.scores))
        _put(self._sits_out, client, record.sits_out)
        _put(self._kept, client, record.kept or None)

    def _count(self, record: ClientRecord) -> None:
        self._rows[self.place_of(record.client)] = [getattr(record, name) for name in COUNTERS]

    def begun(self) -> list[int]:
        """Return the clients, in their order, that were ever given a task or can afford something else than at first;
        all others are as they introduced themselves.
        """
        for record in self._objects.values():
            self._count(record)
        places = np.flatnonzero((self._rows != FRESH).any(axis=1)).tolist()
        order = self._places if isinstance(self._places, range) else list(self._places)
        known = {order[place] for place in places} | self._introductions.keys()
        return sorted(known, key=self.place_of)

    @property
    def sitting_out(self) -> tuple[int, ...]:
        """Clients that are given no tasks, in their order."""
        found = {client for client, record in self._objects.items() if record.sits_out}
        found |= self._sits_out.keys() - self._objects.keys()
        return tuple(sorted(found, key=self.place_of))

    def scores(self) -> Iterator[tuple[int, Scores]]:
        """Yield the scores of all clients that have some, in their order."""
        for client in sorted(self._scores.keys() | self._objects.keys(), key=self.place_of):
            record = self._objects.get(client)
            scores = unpacked(self._scores[client]) if record is None else record.scores
            if scores is not None:
                yield client, scores

    def of_clients(self, fact: Callable[[Introduction], float]) -> NDArray[np.float64]:
        """Return what ``fact`` says of each client's board, in their order."""
        clients = self._clients
        return clients.of_kinds(fact) if isinstance(clients, Census) else np.array([fact(one) for one in clients])

    def place_of(self, client: int) -> int:
        """Return the place of ``client`` in the order of clients."""
        places = self._places
        return places[client] if isinstance(places, dict) else places.index(client)


def packed(scores: Scores) -> Packed:
    """Return scores as one vector, float32 where that loses nothing, as of those that came in a message."""
    layout = tuple(tuple((group, len(values)) for group, values in block.items()) for block in scores)
    whole = np.concatenate([np.empty(0), *(values for block in scores for values in block.values())])
    short = whole.astype(np.float32)
    return _same(layout), short if np.array_equal(short, whole) else whole


def unpacked(scores: Packed) -> Scores:
    layout, vector = scores
    values = iter(np.split(vector.astype(np.float64), np.cumsum([size for block in layout for _, size in block])))
    return tuple({group: next(values) for group, _ in block} for block in layout)


@lru_cache(maxsize=1024)
def _same(layout: Layout) -> Layout:
    """Return one value for all equal ones: a million clients have a few."""
    return layout


def _put(table: dict[int, Value], client: int, value: Value | None) -> None:
    if value is not None:
        table[client] = value
    else:
        table.pop(client, None)
