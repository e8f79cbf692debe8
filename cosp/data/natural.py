"""Clients as the data name them (speakers, persons, sites) and the boards that hold theirs.

The rule: clients in sorted order, texts by their letters and integers by value, are dealt to the boards in the fleet's
order, as many to each as its weight says. With as many clients as boards the first is board 0's, the second board 1's.
Nobody's samples are split.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cosp.data.declared import consecutive_rows
from cosp.errors import DataError
from cosp.files import shown_name


@dataclass(frozen=True)
class Holding:
    """What one board holds: whose samples, and their rows of the training data."""

    clients: tuple[str, ...]
    rows: NDArray[np.int64]


def holdings(clients: NDArray[Any], *, weights: Sequence[int], min_samples: int) -> list[Holding]:
    """What each board holds of training data whose rows are those of ``clients`` (N,), by the rule above.

    DataError if there are fewer clients than boards, if a weight is too small for one, or if a board would hold fewer
    than ``min_samples``.
    """
    names, numbers = np.unique(clients, return_inverse=True)
    if len(names) < len(weights):
        raise DataError(
            f"data.partition.kind column: the training data are of {len(names)} clients, the fleet has {len(weights)} "
            "boards, and nobody's samples are split; take a smaller fleet, or another data.partition.kind"
        )
    found = []
    for board, part in enumerate(consecutive_rows(len(names), weights)):
        rows = np.flatnonzero(np.isin(numbers, part)).astype(np.int64)
        shown = tuple(shown_name(str(name)) for name in names[part])
        if not shown:
            raise DataError(
                f"data.partition.kind column: of {len(names)} clients none is left for board {board} by its shares; "
                "set data.partition.pseudo_clients=false to deal as many to each board"
            )
        if len(rows) < min_samples:
            raise DataError(
                f"data.partition.kind column: board {board} would hold {len(rows)} samples, those of {brief(shown)}, "
                f"fewer than min_samples = {min_samples}; lower data.partition.min_samples, or take a smaller fleet"
            )
        found.append(Holding(shown, rows))
    return found


def brief(names: Sequence[str]) -> str:
    """Return the first name, and how many more there are."""
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
