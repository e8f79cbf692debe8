"""What keeps a model that learns from its own guesses from running into one class."""

from __future__ import annotations

import math

import numpy as np

from cosp.adaptation.upload import entropy


def balanced_rows(pseudo: np.ndarray, classes: int, cap: float) -> np.ndarray:
    """Return the rows, in order, of which each pseudo-class has at most ``cap`` times its even share, rounded up."""
    most = math.ceil(cap * len(pseudo) / classes)
    turn = np.zeros(len(pseudo), dtype=np.int64)
    for each in np.unique(pseudo):
        mine = pseudo == each
        turn[mine] = np.arange(int(mine.sum()))
    return np.flatnonzero(turn < most)


def collapsed(probabilities: np.ndarray, limit: float) -> bool:
    """Tell whether the mean of predictions (n, classes) has less than the share ``limit`` of ln C as entropy."""
    return float(entropy(probabilities.mean(0))) < limit


class Watch:
    """Tells a model that got worse by what a board says of its own certainty: worse for ``windows`` in a row.

    Worse: its mean entropy is above what it was with the last good version by more than ``margin`` (shares of ln C).
    """

    def __init__(self, *, windows: int, margin: float) -> None:
        if not (windows >= 1 and margin >= 0):
            raise ValueError(f"windows must be >= 1 and margin >= 0, got {windows} and {margin}")
        self._windows, self._margin = windows, margin
        self._worse = 0

    def worse(self, before: float, after: float) -> bool:
        """Take a window's mean entropy ``before`` and ``after`` the change; True if it is time to go back."""
        self._worse = self._worse + 1 if after > before + self._margin else 0
        if self._worse < self._windows:
            return False
        self._worse = 0
        return True
