"""A drawn mask on its way to the server: one bit for each weight that a mask is drawn for, eight to a byte (FedPM)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from cosp.submodel.matrices import all_matrices, marked, marked_count
from cosp.task.task import Task

if TYPE_CHECKING:
    from torch import Tensor


def bits_sent(task: Task) -> int:
    """Return how many weights the reply to ``task`` tells by one bit each, 0 where it holds floats."""
    if task.kind != "train" or task.local.view != "fedpm":
        return 0
    return marked_count(task.shape, task.plan.counts, all_matrices)


def to_bits(task: Task, vector: Tensor) -> np.ndarray:
    """Return which entries of ``vector``, what ``task`` found, are on; of weights that are never masked nothing."""
    return np.packbits(vector[marked(task.shape, task.plan.counts, all_matrices)].numpy() > 0)


def from_bits(task: Task, bits: np.ndarray) -> Tensor:
    """Undo :func:`to_bits`: zeros and ones; ``ValueError`` if ``bits`` has another length."""
    wanted = (bits_sent(task) + 7) // 8
    if bits.dtype != np.uint8 or bits.size != wanted:
        raise ValueError(f"a mask must have {wanted} uint8, got {bits.size} {bits.dtype}")
    vector = torch.zeros(task.parameters)
    on = np.unpackbits(bits.reshape(-1), count=bits_sent(task))
    vector[marked(task.shape, task.plan.counts, all_matrices)] = torch.from_numpy(on).float()
    return vector
