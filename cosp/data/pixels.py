"""Arrays of pixels as training takes them: channels first, shifted and scaled."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def channels_first(x: NDArray[Any]) -> NDArray[np.float32]:
    """A new float32 array (N, C, H, W) of ``x`` (N, H, W, C)."""
    return np.array(x.transpose(0, 3, 1, 2), dtype=np.float32, order="C")


def normalise(x: NDArray[np.float32], mean: NDArray[np.float64], std: NDArray[np.float64]) -> NDArray[np.float32]:
    """``x`` itself, changed in place."""
    x -= mean.astype(np.float32)[:, None, None]
    x /= std.astype(np.float32)[:, None, None]
    return x
