"""What may be a label: an integer or a text, one for each sample."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cosp.errors import DataError

LARGEST_LABEL = np.iinfo(np.int64).max


def check_labels(y: NDArray[Any], *, origin: str) -> None:
    """DataError unless ``y`` is a vector of integers that int64 holds, of texts, or of truth values."""
    if y.ndim != 1 or y.dtype.kind not in "biuU":
        raise DataError(
            f"{origin}: labels must be integers of shape (N,) or texts, got {y.dtype} of shape {y.shape}"
            + ("; round them: y.astype(int)" if y.dtype.kind == "f" else "")
        )
    if y.size and y.dtype.kind == "u" and y.max() > LARGEST_LABEL:
        raise DataError(f"{origin}: labels must be at most {LARGEST_LABEL}, got {y.max()}")


def as_texts(values: NDArray[Any], *, origin: str) -> NDArray[Any]:
    """Return ``values`` with bytes read as UTF-8; DataError if some are none. Other values are returned as they are."""
    if values.dtype.kind != "S":
        return values
    try:
        return np.char.decode(values, "utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{origin}: holds bytes that are no UTF-8 ({error.reason}); write texts instead") from error
