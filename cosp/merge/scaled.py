"""Add a submodel's tensor, scaled, to the kept entries of the whole tensor: as fast as memory allows.

Each product is rounded before it is added, as in ``total[kept] += weight * part``: to the bit the same, without
temporaries larger than a piece.

What is kept is cut into runs of consecutive entries. Long runs are slices, added in one pass. Short ones are added by
index: rows of what follows the last dimension that is cut, or single entries where that is nothing. Numba compiles that
to loops of one pass (``compiled.py``); where it is not installed, pieces are scaled and added by torch and numpy.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from cosp.merge import compiled
from cosp.merge.compiled import Array, Loops, Places
from cosp.submodel.slicing import Indices, grid

if TYPE_CHECKING:
    from torch import Tensor

PIECE = 1 << 16
"""Entries at a time: few enough to stay in a core's cache, many enough for a call not to count."""

LONG = 1 << 13
"""Entries of a block of consecutive units from which on slicing beats indexing."""

SMALL, LARGE = 1 << 14, 1 << 17
"""Entries of a part below which one call of torch is as fast as anything; and from which on a loop is compiled."""


def add_scaled(total: Tensor, kept: Indices, part: Tensor, weight: float) -> None:
    """Add ``weight * part`` to the outer product of ``kept``, ascending, in ``total``.

    ``total`` is contiguous float32 that began as zeros, so that no entry of it is a negative zero.
    """
    if not part.numel():
        return
    if part.numel() < SMALL and not all(index is None or _is_one_run(index) for index in kept):
        _add_small(total, kept, weight * part)
        return
    blocks = math.prod(1 if index is None else len(_starts(index)) for index in kept)
    if blocks == 1 or part.numel() >= LONG * blocks:
        for block in itertools.product(*map(_runs, kept, total.shape)):
            here, there = zip(*block, strict=True)
            _add_in_one_pass(total[here], part[there], weight)
    else:
        with np.errstate(over="ignore", invalid="ignore"):
            _add_by_index(total, kept, part, np.float32(weight))


def _add_small(total: Tensor, kept: Indices, scaled: Tensor) -> None:
    cut = [(dimension, index) for dimension, index in enumerate(kept) if index is not None]
    if len(cut) == 1:
        total.index_add_(*cut[0], scaled)
    else:
        total[grid(kept, tuple(total.shape))] += scaled


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


def _is_one_run(index: Tensor) -> bool:
    return int(index.numpy()[-1] - index.numpy()[0]) == len(index) - 1


def _starts(index: Tensor) -> NDArray[np.int64]:
    """Return where in ``index`` runs of consecutive entries begin."""
    if _is_one_run(index):
        return np.zeros(1, dtype=np.int64)
    entries = index.numpy()
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


def _add_by_index(total: Tensor, kept: Indices, part: Tensor, weight: np.float32) -> None:
    """Add to rows of what follows the last dimension that is cut, or to entries where that is nothing."""
    for index, size in zip(kept, total.shape, strict=True):
        if index is not None and not 0 <= index[0] <= index[-1] < size:  # compiled loops would not look
            raise IndexError(f"entries {int(index[0])} to {int(index[-1])} of a dimension of {size}")
    last = max(d for d, index in enumerate(kept) if index is not None)
    width, inner = total.shape[last], math.prod(total.shape[last + 1 :])
    before, places = torch.zeros(1, dtype=torch.int64), kept[last]
    assert places is not None  # the last that is cut
    for index, size in zip(kept[:last], total.shape[:last], strict=True):
        before = (before[:, None] * size + (torch.arange(size) if index is None else index)).flatten()
    add = (compiled.loops() if part.numel() >= LARGE else None) or Loops(_add_rows, _add_entries)
    entries = part.contiguous().numpy()
    if inner > 1:
        where = (before[:, None] * width + places).flatten()
        add.rows(total.view(-1, inner).numpy(), where.numpy(), entries.reshape(len(where), inner), weight)
    else:
        columns = places.numpy().astype(np.int32)
        some = entries.reshape(len(before), len(columns))
        add.entries(total.view(-1, width).numpy(), before.numpy(), columns, some, weight)


def _add_rows(total: Array, where: Places, part: Array, weight: np.float32) -> None:
    """Add rows of ``part`` to the rows ``where`` of ``total``."""
    for some in _pieces(part):
        scaled, rows = torch.from_numpy(part[some] * weight), torch.from_numpy(where[some])
        torch.from_numpy(total).index_add_(0, rows, scaled)


def _add_entries(total: Array, rows: Places, places: NDArray[np.int32], part: Array, weight: np.float32) -> None:
    """Add rows of ``part`` to the entries ``places`` of the ``rows`` of ``total``."""
    flat, starts = total.reshape(-1), rows * total.shape[1]
    for some in _pieces(part):
        np.add.at(flat, (starts[some, None] + places).reshape(-1), (part[some] * weight).reshape(-1))


def _pieces(part: Array) -> Iterator[slice]:
    """Yield rows, a piece's worth at a time."""
    height = max(1, PIECE // part.shape[1])
    return (slice(first, first + height) for first in range(0, len(part), height))
