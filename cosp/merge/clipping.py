"""How large an update may be: a robust running bound on its norm per covered parameter.

The norm is the root mean square over the entries that the update covers, so that submodels of all sizes compare. The
bound is a multiple of the median of the latest accepted ones: one board in two must lie before it moves far (norm
clipping as in Sun et al. 2019, arXiv:1911.07963, with a bound that follows training). What lies beyond is no ordinary
update however it is scaled, so it is scaled down to the median and not to the bound, or refused.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

if TYPE_CHECKING:
    from torch import Tensor

RECENT = 64
"""Accepted updates that the median is of."""
FEWEST = 5
"""Accepted updates before there is a median; until then an update may be as large as the weights that it changes."""


@dataclass(frozen=True)
class Clip:
    """``factor``: times the median norm that an update may have; ``how``: what becomes of one beyond."""

    __pydantic_config__ = {"extra": "forbid", "allow_inf_nan": False}  # a misspelt key in a config is an error

    factor: float = 8.0
    how: Literal["scale", "refuse"] = "scale"

    def __post_init__(self) -> None:
        if not self.factor > 1:
            raise ValueError(f"factor must be > 1, got {self.factor}")


class NormBound:
    """The running bound of ``clip``; ``norms``: what a checkpoint kept."""

    def __init__(self, clip: Clip, norms: Iterable[float] = ()) -> None:
        self.clip = clip
        self.norms = deque(norms, maxlen=RECENT)

    def scale_of(self, norm: float, weights_norm: Callable[[], float]) -> float:
        """Return by what an update of ``norm`` is multiplied: 1, or less if it is out of bounds.

        ``weights_norm``: of the weights that it changes, the bound while there is no other.
        """
        median = statistics.median(self.norms) if len(self.norms) >= FEWEST else 0.0
        most, ordinary = (self.clip.factor * median, median) if median else (weights_norm(),) * 2
        return 1.0 if norm <= most else ordinary / norm

    def note(self, norm: float) -> None:
        """Take note of an accepted update, of its norm as it was merged."""
        self.norms.append(norm)


def norm_of(tensors: Iterable[Tensor]) -> float:
    """Return the root mean square of all entries; they are squared as doubles, which no float32 overflows."""
    parts = list(tensors)
    entries = sum(tensor.numel() for tensor in parts)
    squares = sum(float(torch.linalg.vector_norm(tensor, dtype=torch.float64)) ** 2 for tensor in parts)
    return math.sqrt(squares / entries) if entries else 0.0
