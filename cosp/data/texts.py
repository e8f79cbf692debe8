"""Texts as a source gives them: each a row of word numbers, made by the user's own tokeniser."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cosp.data.images import Labelled, check_labels
from cosp.errors import DataError

MOST_WORDS = 2**31 - 1  # word numbers travel as int32, like everything a model reads four bytes each


def checked_texts(x: NDArray[Any], y: NDArray[Any], *, origin: str) -> Labelled:
    """Texts and labels of ``origin``; DataError unless they are (N, T) numbers of words and N integers."""
    check_labels(y, origin=origin)
    if x.dtype.kind not in "iu":
        raise DataError(
            f"{origin}: x (N, T) must be texts, integers for their words, got {x.dtype}; images are (N, H, W[, C])"
        )
    if len(x) != len(y):
        raise DataError(f"{origin}: every text needs one label, got {len(x)} texts and {len(y)} labels")
    if x.size == 0:
        raise DataError(f"{origin}: there must be at least one text of at least one word, got shape {x.shape}")
    if x.min() < 0 or x.max() > MOST_WORDS:
        raise DataError(f"{origin}: numbers of words must lie in 0..{MOST_WORDS}, got {x.min()}..{x.max()}")
    return Labelled(x=x.astype(np.int32), y=y.astype(np.int64), origin=origin)
