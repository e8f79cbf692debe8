"""Data that is not here: its shape and how much of it there is, which is all that plans and dry runs ask for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from cosp.data.dataset import Dataset, Split
from cosp.data.splits import stratified_start
from cosp.seeds import stream_seed
from cosp.stratified import held_count, hold_back, stratified_positions


def declared_dataset(
    name: str, *, shape: tuple[int, ...], vocabulary: int | None = None, classes: int, samples: int
) -> Dataset:
    """Return a data set of ``samples`` zeros of ``shape``, labelled 0, 1, ... in turn; it takes no memory.

    Validation and test hold one sample each: nobody may look at them.
    """
    return Dataset(
        name=name,
        classes=tuple(str(label) for label in range(classes)),
        train=_zeros(samples, shape, classes),
        validation=_zeros(1, shape, classes),
        test=_zeros(1, shape, classes),
        mean=(),
        std=(),
        vocabulary=vocabulary,
        declared=True,
    )


def consecutive_rows(total: int, shares: Sequence[int]) -> list[NDArray[np.int64]]:
    """Return rows 0..total-1 cut in order into parts as long as ``shares`` say; quick for 10,000 of them."""
    ends = np.cumsum(shares) * total // sum(shares)
    return np.split(np.arange(total, dtype=np.int64), ends[:-1])


class DeclaredRows(Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]]):
    """Each client's rows of a declared data set, to train on and held back: all rows in order, cut as
    ``consecutive_rows`` cuts them, ``share`` of each part held back. They are found when somebody asks.
    """

    def __init__(self, total: int, shares: Sequence[int] | NDArray[np.int64], *, classes: int, share: float, seed: int):
        self._ends = np.cumsum(shares) * total // np.sum(shares)
        self._classes, self._share, self._seed = classes, share, seed
        for client in np.flatnonzero(np.diff(self._ends, prepend=0) < 2)[:1].tolist():
            self[client]  # which cannot be split, as is said there

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, client: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]: ...
    @overload
    def __getitem__(self, client: slice) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]: ...
    def __getitem__(self, client: int | slice) -> Any:
        if isinstance(client, slice):
            return [self[one] for one in range(*client.indices(len(self)))]
        begin, end = self._bounds(client)
        part = np.arange(begin, end, dtype=np.int64)
        labels = part % self._classes
        kept, held = hold_back(
            np.arange(end - begin), labels, self._share, self._stream(client), owner=f"client {client}"
        )
        return part[kept], part[held]

    def holding(self, client: int) -> tuple[int, int, tuple[int, ...]]:
        """Return how many rows ``client`` trains on, how many it holds back, and of which classes the former are."""
        begin, end = self._bounds(client)
        length = end - begin
        count = held_count(length, self._share)
        start = stratified_start(np.random.default_rng(self._stream(client)), length)
        return length - count, count, _counts(begin % self._classes, length, count, start, self._classes)

    def _bounds(self, client: int) -> tuple[int, int]:
        client = range(len(self))[client]
        return int(self._ends[client - 1]) if client else 0, int(self._ends[client])

    def _stream(self, client: int) -> int:
        return stream_seed(self._seed, "local test", client)


@lru_cache(maxsize=4096)
def _counts(first: int, length: int, count: int, start: int, classes: int) -> tuple[int, ...]:
    """Return the classes of what is left of labels ``first``, ``first + 1``, ... when ``count`` are held back."""
    whole = np.bincount((first + np.arange(length)) % classes, minlength=classes)
    held = np.searchsorted(np.cumsum(whole), stratified_positions(length, count, start), side="right")
    return tuple((whole - np.bincount(held, minlength=classes)).tolist())


def _zeros(samples: int, shape: tuple[int, ...], classes: int) -> Split:
    one, turns = np.zeros((), dtype=np.float32), np.arange(classes, dtype=np.min_scalar_type(classes - 1))
    return Split(x=np.broadcast_to(one, (samples, *shape)), y=np.resize(turns, samples))
