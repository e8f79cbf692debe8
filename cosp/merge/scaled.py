"""Add a submodel's tensor, scaled, to the kept entries of the whole tensor: as fast as memory allows.

Each product is rounded before it is added, as in ``total[kept] += weight * part``: to the bit the same, without
temporaries larger than a piece.

What is kept is cut into runs of consecutive entries. Long runs are slices, added in one pass; short ones are rows of
what follows the last dimension that is cut, added by index. Where that is nothing, because a matrix is cut in its rows
and its columns, rows are first filled up with zeros: two fast passes instead of one that jumps.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from cosp.submodel.slicing import Indices, grid

if TYPE_CHECKING:
    from torch import Tensor

Array = NDArray[np.float32]

PIECE = 1 << 16
"""Entries at a time: few enough to stay in a core's cache, many enough for a call not to count."""

LONG = 1 << 13
"""Entries of a block of consecutive units from which on slicing beats indexing."""

SMALL, LARGE = 1 << 14, 1 << 18
"""Entries of a part below which indexing the grid is as fast as anything; and from which on filling rows up pays."""


def add_scaled(total: Tensor, kept: Indices, part: Tensor, weight: float) -> None:
    """Add ``weight * part`` to the outer product of ``kept`` in ``total``.

    ``total`` is contiguous float32 that began as zeros, so that no entry of it is a negative zero.
    """
    if not part.numel():
        return
    blocks = math.prod(1 if index is None else len(_starts(index)) for index in kept)
    if blocks == 1 or part.numel() >= LONG * blocks:
        for block in itertools.product(*map(_runs, kept, total.shape)):
            here, there = zip(*block, strict=True)
            _add_in_one_pass(total[here], part[there], weight)
    elif part.numel() < SMALL:
        total[grid(kept, tuple(total.shape))] += weight * part
    else:
        with np.errstate(over="ignore", invalid="ignore"):
            _add_rows(total, kept, part, np.float32(weight))


def _add_in_one_pass(total: Tensor, part: Tensor, weight: float) -> None:
    """Add ``weight * part / 1``: the division changes nothing, but keeps processors from fusing multiplication and
    addition and rounding once where two roundings are meant, as in ``torch.add`` and ``torch.addcmul``.
    """
    total.addcdiv_(part, torch.ones(()), value=weight)


def square(tensor: Tensor) -> float:
    """Return the sum of squares, each rounded to float32 and added up in float64, piece by piece.

    It is finite where all entries are, unless a square overflows.
    """
    if tensor.numel() <= PIECE:
        return float(tensor.square().sum(dtype=torch.float64))
    with np.errstate(over="ignore", invalid="ignore"):
        entries = tensor.reshape(-1).numpy()
        return sum(_square_of_piece(entries[first : first + PIECE]) for first in range(0, len(entries), PIECE))


def _square_of_piece(piece: Array) -> float:
    return float(torch.from_numpy(np.square(piece).astype(np.float64)).sum())


def _starts(index: Tensor) -> NDArray[np.int64]:
    """Return where in ``index`` runs of consecutive entries begin."""
    entries = index.numpy()
    if entries[-1] - entries[0] == len(entries) - 1:
        return np.zeros(1, dtype=np.int64)
    return np.concatenate(([0], np.flatnonzero(entries[1:] - entries[:-1] > 1) + 1))


def _runs(index: Tensor | None, size: int) -> list[tuple[slice, slice]]:
    """Return where each run of consecutive entries lies in the whole, and where in the part."""
    if index is None:
        return [(slice(0, size), slice(0, size))]
    starts = _starts(index).tolist()
    firsts = index[starts].tolist()
    return [
        (slice(first, first + stop - start), slice(start, stop))
        for first, start, stop in zip(firsts, starts, [*starts[1:], len(index)], strict=True)
    ]


def _add_rows(total: Tensor, kept: Indices, part: Tensor, weight: np.float32) -> None:
    """Add by index."""
    last = max(d for d, index in enumerate(kept) if index is not None)
    width, inner = total.shape[last], math.prod(total.shape[last + 1 :])
    before, places = torch.zeros(1, dtype=torch.int64), kept[last]
    assert places is not None  # the last that is cut
    for index, size in zip(kept[:last], total.shape[:last], strict=True):
        before = (before[:, None] * size + (torch.arange(size) if index is None else index)).flatten()
    if inner > 1 or part.numel() < LARGE:
        where = (before[:, None] * width + places).flatten()
        _add_at(total.view(-1, inner), where, part.reshape(len(where), inner).numpy(), weight)
    else:
        _add_filled(total.view(-1, width), before, places.numpy(), part.reshape(len(before), -1).numpy(), weight)


def _add_at(total: Tensor, where: Tensor, part: Array, weight: np.float32) -> None:
    """Add rows of ``part`` to the rows ``where`` of ``total``."""
    inner = part.shape[1]
    if inner == 1:  # one dimension is added far faster than a second one of one entry
        total = total.view(-1)
    height = max(1, PIECE // inner)
    scaled = np.empty((min(height, len(part)), inner), dtype=np.float32)
    for first in range(0, len(part), height):
        some = part[first : first + height]
        np.multiply(some, weight, out=scaled[: len(some)])
        source = torch.from_numpy(scaled[: len(some)])
        total.index_add_(0, where[first : first + height], source.view(-1, *total.shape[1:]))


def _add_filled(total: Tensor, rows: Tensor, places: NDArray[np.int64], part: Array, weight: np.float32) -> None:
    """Add to the entries ``places`` of the ``rows`` of a matrix: rows of a sparse matrix, made dense, are added whole.

    Adding zero to the others changes no bit of them.
    """
    from scipy.sparse import csr_array  # type: ignore[import-untyped]  # a fifth of a second, which plans do not need

    width, height = total.shape[1], min(len(rows), max(1, PIECE // total.shape[1]))
    scaled = np.zeros((height, len(places)), dtype=np.float32)
    ends = np.arange(height + 1, dtype=np.int32) * len(places)
    sparse = csr_array((scaled.reshape(-1), np.tile(places.astype(np.int32), height), ends), shape=(height, width))
    filled = np.empty((height, width), dtype=np.float32)
    for first in range(0, len(part), height):
        some = part[first : first + height]
        np.multiply(some, weight, out=scaled[: len(some)])
        sparse.toarray(out=filled)
        total.index_add_(0, rows[first : first + height], torch.from_numpy(filled[: len(some)]))
