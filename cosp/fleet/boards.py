"""The boards of a fleet, made when somebody asks for them: of each enrolled board only its kind is kept, a number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cosp.fleet.board import Board
from cosp.fleet.made import Made


class Boards(Made[Board]):
    """Clients 0, 1, ...: ``make[kinds[client]](client)`` makes the board of a client.

    Boards of one kind differ by what is drawn for each client: its link's rates and its daily rhythm.
    """

    def __init__(self, kinds: NDArray[np.int32], makers: Sequence[Callable[[int], Board]]) -> None:
        super().__init__(len(kinds), lambda client: makers[kinds[client]](client))
        self._kinds = kinds
        self._firsts = {int(kinds[place]): int(place) for place in np.unique(kinds, return_index=True)[1]}

    def one_of_each(self) -> list[Board]:
        """Return the first board of each kind, in client order."""
        return [self[client] for client in sorted(self._firsts.values())]

    def of_kinds(self, fact: Callable[[Board], Any]) -> NDArray[Any]:
        """Return what ``fact`` says of every board, by one of each kind: it must be the same for all of a kind."""
        found = np.array([fact(self[self._firsts[kind]]) for kind in sorted(self._firsts)])
        return found[np.searchsorted(sorted(self._firsts), self._kinds)]


def one_of_each(boards: Sequence[Board]) -> Sequence[Board]:
    """Return one board of each kind, the first in its order, where kinds are known; else all."""
    return boards.one_of_each() if isinstance(boards, Boards) else boards
