"""The data set that training sees: normalised images, three splits, class names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cosp.data.images import Images, Source
from cosp.data.splits import Sizes, other_rows, rows_to_test, train_validation_rows
from cosp.errors import DataError

CHUNK = 1024  # images whose deviations are held in float64 at a time


@dataclass(frozen=True, kw_only=True)
class Split:
    """``x`` float32 (N, C, H, W), normalised; ``y`` int64 (N,), indices into the data set's classes."""

    x: NDArray[np.float32]
    y: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Images to train on, to choose the exit on (``validation``, kept by the server) and to test on.

    Every channel was shifted and scaled by the mean and standard deviation of the training images, kept in
    ``mean`` and ``std`` (C values each, in units of the source's pixels) for use on new images.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        _, channels, height, width = self.train.x.shape
        return channels, height, width

    def normalised(self, images: Images) -> Split:
        """Return other images as this data set's would be; DataError if they have another shape."""
        channels, height, width = self.image_shape
        if images.x.shape[1:] != (height, width, channels):
            raise DataError(
                f"{images.origin}: images are {images.x.shape[1:]} (H, W, C), those of {self.name} "
                f"{(height, width, channels)}; they must be alike"
            )
        x = _normalise(_channels_first(images.x), np.array(self.mean), np.array(self.std))
        return Split(x=x, y=images.y)


def prepare(source: Source, *, sizes: Sizes, seed: int) -> Dataset:
    """Split, cut to size and normalise what a reader found; DataError if it cannot be trained and tested on."""
    train, test = source.train, source.test
    if test is None:
        held_out = rows_to_test(train.y, origin=train.origin)
        train, test = train.rows(other_rows(len(train), held_out)), train.rows(held_out)
    if train.x.shape[1:] != test.x.shape[1:]:
        raise DataError(
            f"{test.origin}: test images are {test.x.shape[1:]} (H, W, C), training images {train.x.shape[1:]}; "
            "they must be alike"
        )
    train_rows, validation_rows = train_validation_rows(train.y, sizes=sizes, seed=seed, origin=train.origin)
    if sizes.test is not None and sizes.test > len(test):
        raise DataError(f"{test.origin}: {sizes.test} test images were asked for, there are {len(test)}; ask for less")
    test = test.rows(np.arange(len(test) if sizes.test is None else sizes.test))
    train, validation = train.rows(train_rows), train.rows(validation_rows)
    if len(np.unique(train.y)) < 2:
        raise DataError(
            f"{train.origin}: training takes at least 2 classes, its {len(train)} training images are all "
            f"'{source.classes[train.y[0]]}'; add classes, or shuffle the images if they are sorted by class"
        )
    x = _channels_first(train.x)
    mean, std = _mean_and_std(x)
    return Dataset(
        name=source.name,
        classes=source.classes,
        train=Split(x=_normalise(x, mean, std), y=train.y),
        validation=Split(x=_normalise(_channels_first(validation.x), mean, std), y=validation.y),
        test=Split(x=_normalise(_channels_first(test.x), mean, std), y=test.y),
        mean=tuple(mean.tolist()),
        std=tuple(std.tolist()),
    )


def _channels_first(x: NDArray[Any]) -> NDArray[np.float32]:
    """A new float32 array (N, C, H, W) of ``x`` (N, H, W, C)."""
    return np.array(x.transpose(0, 3, 1, 2), dtype=np.float32, order="C")


def _mean_and_std(x: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Per channel, (C,) each, summed in float64; the deviation of a constant channel counts as 1."""
    mean = x.mean(axis=(0, 2, 3), dtype=np.float64)
    squares = np.zeros_like(mean)
    for start in range(0, len(x), CHUNK):
        squares += ((x[start : start + CHUNK] - mean[:, None, None]) ** 2).sum(axis=(0, 2, 3))
    std = np.sqrt(squares * len(mean) / x.size)
    return mean, np.where(std > 0, std, 1.0)


def _normalise(x: NDArray[np.float32], mean: NDArray[np.float64], std: NDArray[np.float64]) -> NDArray[np.float32]:
    """``x`` itself, changed in place."""
    x -= mean.astype(np.float32)[:, None, None]
    x /= std.astype(np.float32)[:, None, None]
    return x
