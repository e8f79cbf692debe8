"""What the boards of a fleet say of themselves, made when somebody asks: of each enrolled board only three numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cosp.fleet.boards import Boards
from cosp.fleet.introduction import Introduction
from cosp.fleet.made import Made

Holding = tuple[int, int, tuple[int, ...]]
"""Samples to train on, samples held back, and how many of each class the former are."""


class Census(Made[Introduction]):
    """``make(client, *holding)`` makes the introduction of a client with its of ``holdings``.

    ``alike``: boards of one kind can afford the same, whatever is drawn for each.
    """

    def __init__(
        self, boards: Boards, holdings: Iterable[Holding], make: Callable[..., Introduction], *, alike: bool
    ) -> None:
        tallies: dict[tuple[int, ...], int] = {}
        facts = np.fromiter(
            ((held, back, tallies.setdefault(counts, len(tallies))) for held, back, counts in holdings),
            np.dtype((np.int32, 3)),
            len(boards),
        )
        known = list(tallies)

        def introduction(client: int) -> Introduction:
            held, back, tally = facts[client].tolist()
            return make(client, held, back, known[tally])

        super().__init__(len(boards), introduction)
        self._boards, self._alike = boards, alike

    def one_of_each(self) -> Iterable[Introduction]:
        return (self[board.client] for board in self._boards.one_of_each()) if self._alike else self

    def of_kinds(self, fact: Callable[[Introduction], Any]) -> NDArray[Any]:
        """Return what ``fact`` says of every client, which must be the same for all boards of a kind."""
        return self._boards.of_kinds(lambda board: fact(self[board.client]))


def one_of_each(clients: Iterable[Introduction]) -> Iterable[Introduction]:
    """Return one client of each kind, the first in its order, where it is known which are alike; else all."""
    return clients.one_of_each() if isinstance(clients, Census) else clients
