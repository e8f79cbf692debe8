"""What a task found, as the numbers that travel: floats, a weight change in whole numbers, or the bits of a mask."""

from __future__ import annotations

from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from cosp.submodel.plan import GROUPS
from cosp.submodel.selection import Scores
from cosp.task.bits import bits_sent, from_bits, to_bits
from cosp.task.compression import pack, unpack
from cosp.task.task import Task


def sends_whole_numbers(task: Task) -> bool:
    """Say whether the reply to ``task`` is a weight change packed into whole numbers."""
    return task.kind == "train" and not bits_sent(task) and task.compression.up == "int8"


def to_payload(task: Task, vector: Tensor) -> np.ndarray:
    """Return ``vector``, what ``task`` found, as float32, int8 or (a mask) uint8."""
    if bits_sent(task):
        return to_bits(task, vector)
    if sends_whole_numbers(task):
        return pack(vector, task.trained_spans)
    return vector.contiguous().numpy()


def from_payload(task: Task, payload: np.ndarray) -> Tensor:
    """Undo :func:`to_payload`: float32; ``ValueError`` if ``payload`` is not what the reply to ``task`` holds."""
    if bits_sent(task):
        return from_bits(task, payload)
    if sends_whole_numbers(task):
        return unpack(payload, task.trained_spans)
    if not np.issubdtype(payload.dtype, np.floating):
        raise ValueError(f"the reply must hold floats, got {payload.dtype}")
    return torch.from_numpy(payload).float().reshape(-1)


def scores_to_vector(scores: Scores) -> Tensor:
    """Return all scores end to end, float32: block by block, group by group."""
    return torch.from_numpy(np.concatenate([block[group] for block in scores for group in GROUPS])).float()


def scores_from_vector(vector: Tensor, task: Task) -> Scores:
    """Undo :func:`scores_to_vector` for a score task; ``ValueError`` if its length is wrong or a score not finite."""
    sizes = [task.shape.sizes.of(group) for group in GROUPS]
    if vector.numel() != task.plan.depth * sum(sizes) or not bool(torch.isfinite(vector).all()):
        raise ValueError(f"scores must be {task.plan.depth * sum(sizes)} finite numbers, got {vector.numel()}")
    rows = vector.double().numpy().reshape(task.plan.depth, -1)
    ends = list(accumulate(sizes))
    return tuple({g: row[end - size : end] for g, size, end in zip(GROUPS, sizes, ends)} for row in rows)
