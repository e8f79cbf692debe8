"""What a trainer trains on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np


class Samples(NamedTuple):
    """A client's samples and labels (n,) int64, in memory or memory-mapped.

    ``x`` is images (n, C, H, W) or series (n, T, C), float32, or texts (n, T), int32; or something that chosen
    rows of become an array of by ``np.asarray``: images still in their files.
    """

    x: Any
    y: np.ndarray


@dataclass(frozen=True)
class ClientSamples:
    """What one client owns: samples to train on and a held-back split to judge its own submodel."""

    train: Samples
    test: Samples
