"""Arrays of pixels as training takes them: channels first, shifted and scaled."""

from __future__ import annotations

import numpy as np


def channels_first(x: np.ndarray) -> np.ndarray:
    """A new float32 array (N, C, H, W) of ``x`` (N, H, W, C)."""
    return np.array(x.transpose(0, 3, 1, 2), dtype=np.float32, order="C")


def normalise(x: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """``x`` itself, changed in place."""
    x -= mean.astype(np.float32)[:, None, None]
    x /= std.astype(np.float32)[:, None, None]
    return x
