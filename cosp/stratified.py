"""Rows drawn so that every class has its share: those that a client, or the server, holds back."""

from __future__ import annotations

from typing import Sequence, Tuple, Union

import numpy as np

from cosp.errors import DataError


def stratified_rows(labels: np.ndarray, count: int, seed: Union[int, Sequence[int]]) -> np.ndarray:
    """``count`` rows, sorted, in which each class has its share of all rows, rounded up or down.

    Systematic sampling: lay the rows out class by class, shuffled within each, and take every (N / count)-th.
    Unlike scikit-learn's stratified split it also works for classes with one sample and for counts below the
    number of classes.
    """
    if not 0 <= count <= len(labels):
        raise ValueError(f"count must lie in 0..{len(labels)}, got {count}")
    if count == 0:
        return np.empty(0, np.int64)
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    start = int(rng.integers(len(labels)))
    return np.sort(by_class[stratified_positions(len(labels), count, start)])


def stratified_positions(total: int, count: int, start: int) -> np.ndarray:
    """Return every (N / count)-th of N positions. In whole numbers: rounded products could name one twice. ``start`` <
    N keeps the last position below N.
    """
    return (np.arange(count, dtype=np.int64) * total + start) // count


def hold_back(
    indices: np.ndarray,
    labels: np.ndarray,
    share: float,
    seed: Union[int, Sequence[int]],
    *,
    owner: str = "client",
) -> Tuple[np.ndarray, np.ndarray]:
    """Split a client's rows ``indices`` of ``labels`` into (train, local test), both sorted and never empty.

    The test part holds ``share`` of the rows, of each class as near to it as whole rows allow.
    DataError names ``owner`` if it has fewer than 2 rows.
    """
    if not 0 < share < 1:
        raise ValueError(f"share must lie between 0 and 1, got {share}")
    if len(indices) < 2:
        raise DataError(
            f"{owner}: {len(indices)} images cannot be split into training and local test, it takes 2; "
            "raise min_samples or alpha, or use fewer clients"
        )
    count = held_count(len(indices), share)
    ordered = np.sort(indices)
    test = ordered[stratified_rows(labels[ordered], count, seed)]
    return np.setdiff1d(ordered, test, assume_unique=True), test


def held_count(rows: int, share: float) -> int:
    """Return how many of a client's rows are held back."""
    return min(max(1, round(share * rows)), rows - 1)
