"""Which images train, which validate on the server, which test: row numbers only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cosp.errors import DataError
from cosp.stratified import stratified_rows

TEST_SHARE = 0.2  # of a data set that comes without a test split
VALIDATION_SHARE = 0.1  # of the training images, unless a number is asked for
TEST_SPLIT_SEED = 0  # not the run's seed: runs that differ by seed must be tested on the same images


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How many images to use; None takes all there are (for ``validation``: a stratified tenth of the training images).

    The first ``train`` images of the training data train, the next ``validation`` ones validate, the first ``test``
    ones of the test data test; the rest are dropped.
    """

    train: int | None = None
    validation: int | None = None
    test: int | None = None

    def __post_init__(self) -> None:
        for field in ("train", "validation", "test"):
            value = getattr(self, field)
            if value is not None and value < 1:
                raise ValueError(f"{field} must be >= 1, got {value}")


def stratified_start(rng: np.random.Generator, total: int) -> int:
    """Return where ``stratified_rows`` begins, which alone decides how many of each class it takes."""
    rng.permutation(total)
    return int(rng.integers(total))


def other_rows(total: int, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows of 0..total-1 that are not in ``rows``, sorted."""
    kept = np.ones(total, bool)
    kept[rows] = False
    return np.flatnonzero(kept).astype(np.int64)


def rows_to_test(labels: NDArray[np.int64], *, origin: str) -> NDArray[np.int64]:
    """The stratified fifth that tests a data set without a test split; the same for every run."""
    if len(labels) < 2:
        raise DataError(f"{origin}: splitting off a test set takes at least 2 images, got {len(labels)}")
    return stratified_rows(labels, max(1, round(TEST_SHARE * len(labels))), TEST_SPLIT_SEED)


def train_validation_rows(
    labels: NDArray[np.int64], *, sizes: Sizes, seed: int, origin: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows that train and rows that validate, disjoint and sorted; DataError if there are fewer than asked for."""
    total = len(labels)
    validation = sizes.validation or max(1, round(VALIDATION_SHARE * (sizes.train or total)))
    train = sizes.train or total - validation
    if train < 1 or train + validation > total:
        raise DataError(
            f"{origin}: {max(train, 1)} training + {validation} validation images were asked for, there are {total}; "
            "ask for less"
        )
    if sizes.validation is not None:
        return np.arange(train), np.arange(train, train + validation)
    held_out = stratified_rows(labels, validation, seed)
    return other_rows(total, held_out)[:train], held_out


def check_cut(part: NDArray[np.int64], whole: NDArray[np.int64], *, key: str, origin: str) -> None:
    """DataError if ``part`` of ``whole`` lacks classes because that is sorted by class."""
    missing = len(np.unique(whole)) - len(np.unique(part))
    if missing and _is_sorted_by_class(whole):
        raise DataError(
            f"{origin}: is sorted by class, so the first {len(part)} samples that {key} asks for lack {missing} of its "
            f"{len(np.unique(whole))} classes; shuffle x and y alike, or ask for all: {key}=null"
        )


def _is_sorted_by_class(labels: NDArray[np.int64]) -> bool:
    """Whether each class lies in one piece, and classes are large enough for that to be no chance."""
    classes = len(np.unique(labels))
    return len(labels) >= 2 * classes and np.count_nonzero(np.diff(labels)) == classes - 1
