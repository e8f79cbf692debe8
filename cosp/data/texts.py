"""Texts as a source gives them: each a row of word numbers, made by the user's own tokeniser."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cosp.data.images import Labelled
from cosp.data.labels import check_labels
from cosp.errors import DataError

MOST_WORDS = 2**31 - 1  # word numbers travel as int32, like everything a model reads four bytes each
BRIGHT = range(200, 256)  # where the largest number of flattened images lies
LEAST_SIDE = 8


def checked_texts(
    x: NDArray[Any], y: NDArray[Any], *, origin: str, vocabulary: int | None = None, sure: bool = False
) -> Labelled:
    """Texts and labels of ``origin``; DataError unless they are (N, T) numbers of words and N labels.

    What looks like flattened images is refused unless somebody is ``sure`` that it is texts, or said their
    ``vocabulary``, the number of their words.
    """
    check_labels(y, origin=origin)
    if x.ndim != 2 or x.dtype.kind not in "iu":
        raise DataError(
            f"{origin}: x (N, T) must be texts, integers for their words, got {x.dtype} of shape {x.shape}; images are "
            "(N, H, W[, C]), and series of measured values take data.kind: series"
        )
    if len(x) != len(y):
        raise DataError(f"{origin}: every text needs one label, got {len(x)} texts and {len(y)} labels")
    if x.size == 0:
        raise DataError(f"{origin}: there must be at least one text of at least one word, got shape {x.shape}")
    if vocabulary is None and not sure:
        _refuse_flattened(x, origin)
    most = MOST_WORDS if vocabulary is None else vocabulary - 1
    if x.min() < 0 or x.max() > most:
        raise DataError(f"{origin}: numbers of words must lie in 0..{most}, got {x.min()}..{x.max()}")
    return Labelled(x=x.astype(np.int32), y=y, origin=origin)


def _refuse_flattened(x: NDArray[Any], origin: str) -> None:
    """DataError if ``x`` (N, T) has the type of pixels, or as many columns as a square of them and their range."""
    if x.dtype == np.uint8 or (_is_square(x.shape[1]) and x.max() in BRIGHT):
        raise DataError(
            f"{origin}: x {x.shape} of {x.dtype} in {x.min()}..{x.max()} looks like flattened images: reshape x to "
            "(N, H, W[, C]); if it is texts, say data.kind: texts"
        )


def _is_square(pixels: int) -> bool:
    """Whether a square image, grey or of three channels, has so many numbers."""
    sides = {channels: math.isqrt(pixels // channels) for channels in (1, 3)}
    return any(side >= LEAST_SIDE and side * side * channels == pixels for channels, side in sides.items())
