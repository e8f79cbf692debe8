"""Sequences whose items are made when somebody asks for them, so that a million of them take no memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from operator import eq
from typing import Generic, TypeVar, overload

Item = TypeVar("Item")

KEPT = 4096
"""Items made last that are not made anew when they are asked for again."""


class Made(Sequence[Item], Generic[Item]):
    """A sequence of ``length`` items that ``make(place)`` makes when they are asked for, the same whenever that is."""

    def __init__(self, length: int, make: Callable[[int], Item]) -> None:
        self._length = length
        self._make = lru_cache(maxsize=KEPT)(make)

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, place: int) -> Item: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[Item, ...]: ...
    def __getitem__(self, place: int | slice) -> Item | tuple[Item, ...]:
        if isinstance(place, slice):
            return tuple(self._make(at) for at in range(*place.indices(self._length)))
        if not -self._length <= place < self._length:
            raise IndexError(f"place must lie below {self._length}, got {place}")
        return self._make(place % self._length)

    def __iter__(self) -> Iterator[Item]:
        return map(self._make, range(self._length))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(eq, self, other))

    __hash__ = None  # type: ignore[assignment]
