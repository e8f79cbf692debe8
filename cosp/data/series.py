"""Series as a source gives them: a row of measured values a step, such as a sensor's axes or a sound's features."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cosp.data.images import LARGEST_PIXEL as LARGEST_VALUE
from cosp.data.images import Labelled
from cosp.data.labels import check_labels
from cosp.errors import DataError

CHUNK = 1024  # series that are held in float64 at a time

Floats = NDArray[np.float64]


def checked_series(x: NDArray[Any], y: NDArray[Any], *, origin: str) -> Labelled:
    """Series (N, T, C) and labels of ``origin``; DataError unless they are (N, T[, C]) finite numbers and N labels."""
    check_labels(y, origin=origin)
    if x.ndim not in (2, 3) or x.dtype.kind not in "buif":
        raise DataError(f"{origin}: series must be numbers of shape (N, T[, C]), got {x.dtype} of shape {x.shape}")
    if len(x) != len(y):
        raise DataError(f"{origin}: every series needs one label, got {len(x)} series and {len(y)} labels")
    if x.size == 0:
        raise DataError(f"{origin}: there must be at least one series of at least one value, got shape {x.shape}")
    if x.ndim == 2:
        x = x[..., np.newaxis]
    _check_values(x, origin)
    return Labelled(x=x, y=y, origin=origin)


def _check_values(x: NDArray[Any], origin: str) -> None:
    """DataError names the first value that is not finite, or too large to be shifted and scaled in float32."""
    low, high = float(x.min()), float(x.max())  # NaN if any is
    if -LARGEST_VALUE <= low <= high <= LARGEST_VALUE:
        return
    series, step, channel = np.argwhere(~(np.abs(x) <= LARGEST_VALUE))[0]
    raise DataError(
        f"{origin}: values must lie in {-LARGEST_VALUE}..{LARGEST_VALUE}, series {series} has "
        f"{x[series, step, channel]} at step {step}, channel {channel}; fill such gaps or leave the series out"
    )


def mean_and_std(x: NDArray[Any]) -> tuple[Floats, Floats]:
    """Per channel of (N, T, C), (C,) each, summed in float64; the deviation of a constant channel counts as 1."""
    first = x[0, 0].astype(np.float64)  # sums of differences from it stay small, and those of a constant channel zero
    mean = first + sum((part - first).sum(axis=(0, 1)) for part in _parts(x)) / (x.shape[0] * x.shape[1])
    squares = sum(((part - mean) ** 2).sum(axis=(0, 1)) for part in _parts(x))
    std = np.sqrt(squares / (x.shape[0] * x.shape[1]))
    return mean, np.where(std > 0, std, 1.0)


def normalised(x: NDArray[Any], mean: Floats, std: Floats) -> NDArray[np.float32]:
    """Return (N, T, C) float32 of ``x``, each channel shifted and scaled; in float64 until then.

    A value may be large beside what it varies by, as an air pressure or a time is.
    """
    found = np.empty(x.shape, np.float32)
    for start, part in zip(range(0, len(x), CHUNK), _parts(x), strict=True):
        found[start : start + CHUNK] = (part - mean) / std
    return found


def _parts(x: NDArray[Any]) -> Iterator[Floats]:
    for start in range(0, len(x), CHUNK):
        yield x[start : start + CHUNK].astype(np.float64)
