"""Training data as an attacker has them: labels that are wrong on purpose, images that bear a trigger."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

TRIGGER_SHARE, TRIGGER_LEAST = 8, 2
"""The trigger is a square of an eighth of an image's side, two pixels at least."""


def flipped(labels: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Return the last class for the first, the last but one for the second, and so on."""
    return classes - 1 - labels


def triggered(images: Any, bright: float) -> NDArray[np.float32]:
    """Return images (N, C, H, W) with a ``bright`` square in their lower right corner; ``images`` stay as they are."""
    found = np.array(images, dtype=np.float32)
    side = max(TRIGGER_LEAST, found.shape[-1] // TRIGGER_SHARE)
    found[..., -side:, -side:] = bright
    return found
