"""A series of any length in few points."""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")

MOST = 600


class Thinned(Generic[T]):
    """Keeps every n-th of what is added, n doubling as it grows, and the last."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._every = 1
        self._added = 0
        self._kept: list[T] = []
        self._last: list[T] = []

    def add(self, value: T) -> None:
        if self._added % self._every == 0:
            self._kept.append(value)
        self._last = [value]
        self._added += 1
        if len(self._kept) >= 2 * self._most:
            self._kept = self._kept[::2]
            self._every *= 2

    def points(self) -> list[T]:
        kept_last = (self._added - 1) % self._every == 0
        return self._kept if kept_last else self._kept + self._last
