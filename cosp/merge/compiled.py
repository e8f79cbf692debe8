"""Loops that add scaled entries by index in one pass, compiled by numba (an extra) when a large tensor first asks.

Numba neither fuses a multiplication with an addition nor reorders them: to the bit what numpy does in three passes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Places = NDArray[np.int64]

AddRows = Callable[[Array, Places, Array, np.float32], None]
AddEntries = Callable[[Array, Places, NDArray[np.int32], Array, np.float32], None]


@dataclass(frozen=True)
class Loops:
    """``rows(total, where, part, weight)`` and ``entries(total, rows, places, part, weight)``, all C-contiguous."""

    rows: AddRows
    entries: AddEntries


@cache
def loops() -> Loops | None:
    """Return the loops; None where numba is not installed, or does not know this numpy.

    They are compiled once for a machine, in a second: numba keeps what it made beside this file, or in the user's cache
    where that cannot be written.
    """
    try:
        import numba
    except ImportError:
        return None
    whole, part, weight = "float32[:, ::1]", "float32[:, ::1]", "float32"
    rows = _compiled(numba, f"void({whole}, int64[::1], {part}, {weight})", _rows)
    entries = _compiled(numba, f"void({whole}, int64[::1], int32[::1], {part}, {weight})", _entries)
    return Loops(rows, entries)


def _compiled(numba: Any, signature: str, loop: Callable[..., None]) -> Callable[..., None]:
    try:
        return numba.njit(signature, cache=True)(loop)  # type: ignore[no-any-return]
    except (OSError, RuntimeError):  # nowhere to keep it
        return numba.njit(signature)(loop)  # type: ignore[no-any-return]


def _rows(total: Array, where: Places, part: Array, weight: np.float32) -> None:
    for i in range(len(where)):
        into, row = total[where[i]], part[i]  # views: to index both at a time is a third slower
        for k in range(len(row)):
            into[k] += weight * row[k]


def _entries(total: Array, rows: Places, places: NDArray[np.int32], part: Array, weight: np.float32) -> None:
    """Four rows at a time, as one alone does not keep memory busy."""
    fours = len(rows) // 4 * 4
    for i in range(0, fours, 4):
        into_1, into_2, into_3, into_4 = total[rows[i]], total[rows[i + 1]], total[rows[i + 2]], total[rows[i + 3]]
        row_1, row_2, row_3, row_4 = part[i], part[i + 1], part[i + 2], part[i + 3]
        for k in range(len(places)):
            place = places[k]
            into_1[place] += weight * row_1[k]
            into_2[place] += weight * row_2[k]
            into_3[place] += weight * row_3[k]
            into_4[place] += weight * row_4[k]
    for i in range(fours, len(rows)):
        into, row = total[rows[i]], part[i]
        for k in range(len(places)):
            into[places[k]] += weight * row[k]
