"""Samples with labels as a source gives them, checked once: the form that every reader of this package returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cosp.errors import DataError

if TYPE_CHECKING:
    from cosp.data.image_files import ImageFiles

MOST_CHANNELS_FIRST = 4  # up to this many channels, (N, C, H, W) can be told from (N, H, W, C)
LARGEST_PIXEL = 1e30  # in float32, to be shifted and scaled without overflow
LARGEST_LABEL = np.iinfo(np.int64).max


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """``x`` images (N, H, W, C) of any real dtype, in memory or in their files, or texts (N, T) of word numbers; ``y``
    (N,) int64 labels as the source has them, ``origin`` for messages.
    """

    x: NDArray[Any] | ImageFiles
    y: NDArray[np.int64]
    origin: str

    def __len__(self) -> int:
        return len(self.y)

    def rows(self, rows: NDArray[np.int64]) -> Labelled:
        """The samples at ``rows``, in that order."""
        return Labelled(x=self.x[rows], y=self.y[rows], origin=self.origin)


@dataclass(frozen=True, kw_only=True)
class Source:
    """What a reader found: labels are indices into ``classes``; without a test split of its own, ``test`` is None."""

    name: str
    classes: tuple[str, ...]
    train: Labelled
    test: Labelled | None


def checked_images(x: NDArray[Any], y: NDArray[Any], *, origin: str) -> Labelled:
    """Images and labels of ``origin``; DataError unless they are (N, H, W[, C]) finite numbers and N integers."""
    check_labels(y, origin=origin)
    if x.ndim not in (3, 4) or x.dtype.kind not in "buif":
        raise DataError(f"{origin}: images must be numbers of shape (N, H, W[, C]), got {x.dtype} of shape {x.shape}")
    if len(x) != len(y):
        raise DataError(f"{origin}: every image needs one label, got {len(x)} images and {len(y)} labels")
    if x.size == 0:
        raise DataError(f"{origin}: there must be at least one image of at least one pixel, got shape {x.shape}")
    if x.ndim == 3:
        x = x[..., np.newaxis]
    if x.shape[1] <= MOST_CHANNELS_FIRST < x.shape[3]:
        raise DataError(f"{origin}: images look channels first, shape {x.shape}; transpose them to (N, H, W, C)")
    low, high = float(x.min()), float(x.max())  # NaN if any is
    if not -LARGEST_PIXEL <= low <= high <= LARGEST_PIXEL:
        raise DataError(f"{origin}: pixels must lie in {-LARGEST_PIXEL}..{LARGEST_PIXEL}, got {low}..{high}")
    return Labelled(x=x, y=y.astype(np.int64), origin=origin)


def check_labels(y: NDArray[Any], *, origin: str) -> None:
    """DataError unless ``y`` is a vector of integers that int64 holds."""
    if y.ndim != 1 or y.dtype.kind not in "iu":
        raise DataError(f"{origin}: labels must be integers of shape (N,), got {y.dtype} of shape {y.shape}")
    if y.size and y.max() > LARGEST_LABEL:
        raise DataError(f"{origin}: labels must be at most {LARGEST_LABEL}, got {y.max()}")


def named_labels(name: str, classes: Sequence[str], train: Labelled, test: Labelled | None) -> Source:
    """A source whose labels are indices into ``classes``; DataError if one is not."""
    for images in (train, test):
        if images is not None and not (images.y.min() >= 0 and images.y.max() < len(classes)):
            low, high = images.y.min(), images.y.max()
            raise DataError(f"{images.origin}: labels must lie in 0..{len(classes) - 1}, got {low}..{high}")
    return Source(name=name, classes=tuple(classes), train=train, test=test)


def numbered_labels(name: str, train: Labelled, test: Labelled | None) -> Source:
    """A source whose classes are the labels that occur in ``train``, in rising order and named by their numbers."""
    values = np.unique(train.y)

    def index(images: Labelled) -> Labelled:
        unknown = np.setdiff1d(images.y, values)
        if len(unknown):
            raise DataError(f"{images.origin}: label {unknown[0]} does not occur in the training data {train.origin}")
        return Labelled(x=images.x, y=np.searchsorted(values, images.y).astype(np.int64), origin=images.origin)

    classes = tuple(str(value) for value in values)
    return Source(name=name, classes=classes, train=index(train), test=None if test is None else index(test))
