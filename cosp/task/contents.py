"""What is in a frozen tensor, in short: server and board name by it what need not be sent again."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Tuple

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

CONTENT_BYTES = 16
"""Of a digest as it travels; as many letters again in a text."""


def content_of(tensor: Tensor) -> str:
    """Return a digest of shape and values as float32, whatever they are held in."""
    values = np.ascontiguousarray(tensor.detach().float().cpu().numpy(), dtype="<f4")
    return _digest(tuple(values.shape), values.tobytes())


def content_unknown(name: str, shape: Tuple[int, ...]) -> str:
    """Return what stands for the content of a tensor that is not there, as in a dry run."""
    return _digest(shape, name.encode())


def _digest(shape: Tuple[int, ...], data: bytes) -> str:
    found = hashlib.sha256(repr(shape).encode())
    found.update(data)
    return found.hexdigest()[: 2 * CONTENT_BYTES]
