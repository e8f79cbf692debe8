"""What a task found, as the numbers that travel: floats, a weight change in whole numbers, or the bits of a mask."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cosp.client.bits import from_bits, to_bits
from cosp.client.compression import pack, unpack
from cosp.client.task import Task


def to_payload(task: Task, vector: Tensor) -> np.ndarray:
    """Return ``vector``, what ``task`` found, as float32, int8 or (a mask) uint8."""
    if task.bits_sent:
        return to_bits(task, vector)
    if task.sends_whole_numbers:
        return pack(vector, task.spans)
    return vector.contiguous().numpy()


def from_payload(task: Task, payload: np.ndarray) -> Tensor:
    """Undo :func:`to_payload`: float32; ``ValueError`` if ``payload`` is not what the reply to ``task`` holds."""
    if task.bits_sent:
        return from_bits(task, payload)
    if task.sends_whole_numbers:
        return unpack(payload, task.spans)
    if not np.issubdtype(payload.dtype, np.floating):
        raise ValueError(f"the reply must hold floats, got {payload.dtype}")
    return torch.from_numpy(payload).float().reshape(-1)
