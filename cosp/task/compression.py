"""What travels with fewer bits: weights as halves on their way to a client, its weight change as bytes on the way back.

Each tensor of a weight change shares one power of two as its scale and rounds every entry to a whole number of it
between -127 and 127 (block floating point; Wilkinson 1963, as in Drumond et al. 2018, arXiv:1804.01526): half a scale
at most is lost, which is under 0.8 % of the tensor's largest entry. Scales being powers of two, packing once more what
was unpacked changes no bit, so a simulated client can hand on floats and still be what the wire would have brought.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, List

import numpy as np
import torch

from cosp.submodel.flat import Spans, length

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS = {"float32": 4, "float16": 2}
CHANGES = {"float32": 4, "int8": 1}
"""Number format -> bytes an entry."""

LARGEST = 127
NOT_FINITE, NOTHING = 127, -127
"""Exponents of a tensor that holds NaN or infinity, and of one that holds but zeros."""


@dataclass(frozen=True)
class CompressionSettings:
    """Number formats on the wire: ``down`` of the weights that a client receives, ``up`` of the change it sends."""

    __pydantic_config__ = {"extra": "forbid"}  # a misspelt key in a config is an error

    down: str = "float32"
    up: str = "float32"

    def __post_init__(self) -> None:
        for name, known in (("down", WEIGHTS), ("up", CHANGES)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {tuple(known)}, got {getattr(self, name)!r}")

    def download_bytes(self, parameters: int) -> int:
        return WEIGHTS[self.down] * parameters

    def upload_bytes(self, parameters: int, tensors: int) -> int:
        """Return the bytes of a weight change; where its entries are whole numbers, each tensor brings a scale."""
        return CHANGES[self.up] * parameters + (tensors if self.up == "int8" else 0)

    def received(self, weights: Tensor) -> Tensor:
        """Return ``weights`` as a client receives them, float32."""
        return weights if self.down == "float32" else rounded(weights, self.down)


def rounded(weights: Tensor, form: str) -> Tensor:
    """Return ``weights`` as numbers of another format say them, float32."""
    return weights.to(getattr(torch, form)).float()


def pack(change: Tensor, spans: Spans) -> np.ndarray:
    """Return one exponent a tensor, then all entries, (tensors + entries,) int8; ``change`` lies as ``spans`` say."""
    values, exponents = change.numpy(), _exponents(change, spans)
    packed = np.empty(len(spans) + length(spans), dtype=np.int8)
    packed[: len(spans)] = exponents
    entries = packed[len(spans) :]
    for exponent, span in zip(exponents, spans.values()):
        part = slice(span.start, span.stop)
        if exponent in (NOT_FINITE, NOTHING):
            entries[part] = exponent == NOT_FINITE
        else:
            whole = values[part] * np.float32(2.0**-exponent)
            entries[part] = np.rint(whole, out=whole)
    return packed


def unpack(packed: np.ndarray, spans: Spans) -> Tensor:
    """Undo :func:`pack`: (entries,) float32; ``ValueError`` if ``packed`` has another type or length."""
    wanted = len(spans) + length(spans)
    if packed.dtype != np.int8 or packed.size != wanted:
        raise ValueError(f"a weight change must have {wanted} int8, got {packed.size} {packed.dtype}")
    flat = packed.reshape(-1)
    change = flat[len(spans) :].astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # bytes from outside may mean anything
        for exponent, span in zip(flat[: len(spans)].tolist(), spans.values()):
            change[span.start : span.stop] *= _scale(exponent)
    return torch.from_numpy(change)


def rounded_(change: Tensor, spans: Spans) -> Tensor:
    """Return ``change`` as it is after the wire, in place: neither bytes nor a second vector are made for it."""
    values = change.numpy()
    for exponent, span in zip(_exponents(change, spans), spans.values()):
        part = values[span.start : span.stop]
        if exponent in (NOT_FINITE, NOTHING):
            part.fill(math.inf if exponent == NOT_FINITE else 0.0)
        else:
            part *= np.float32(2.0**-exponent)
            np.rint(part, out=part)
            part *= _scale(exponent)
            part += np.float32(0)  # whole numbers have no negative zero
    return change


def _exponents(change: Tensor, spans: Spans) -> List[int]:
    """Return each tensor's exponent; two passes over all of ``change`` find the largest entries."""
    values, starts = change.numpy(), [span.start for span in spans.values()]
    largest = np.maximum(np.maximum.reduceat(values, starts), -np.minimum.reduceat(values, starts))
    return [_exponent(each) for each in largest.tolist()]


def _scale(exponent: int) -> np.float32:
    return np.float32(math.inf if exponent == NOT_FINITE else 2.0**exponent)


def _exponent(largest: float) -> int:
    """Return the exponent of the least power of two that ``LARGEST`` times reaches ``largest``."""
    if not math.isfinite(largest):
        return NOT_FINITE
    mantissa, exponent = math.frexp(largest / LARGEST)
    return max(NOTHING, exponent - (mantissa == 0.5)) if largest else NOTHING
