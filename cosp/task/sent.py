"""Weights on their way to a client: what of a task's submodel it has not kept, end to end.

They are numbers of one format, what is frozen first. Where a client holds that as halves, they are bytes: what is
trained in the format of ``compression.down``, then what is frozen in its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Mapping, Tuple

import numpy as np
import torch

from cosp.submodel.layout import ParameterLayout
from cosp.task.compression import WEIGHTS, rounded
from cosp.task.task import Task

if TYPE_CHECKING:
    from torch import Tensor


def in_bytes(task: Task) -> bool:
    """Say whether the weights of ``task`` are sent as bytes, for they are of two formats."""
    return task.frozen.halves and task.parameters > task.trained


def sent_bytes(task: Task) -> int:
    """Return how many bytes the weights are that are sent."""
    if not in_bytes(task):
        return WEIGHTS[task.compression.down] * task.sent
    return WEIGHTS[task.compression.down] * task.trained + task.frozen.entry_bytes * (task.sent - task.trained)


def received(task: Task, entry: ParameterLayout, tensor: Tensor) -> Tensor:
    """Return a tensor of the submodel, where it is frozen or is not, as the client receives it, float32."""
    if task.frozen.halves and task.frozen.holds(entry):
        return rounded(tensor, task.frozen.held_as)
    return task.compression.received(tensor)


def to_bytes(task: Task, tensors: Mapping[str, Tensor]) -> np.ndarray:
    """Return the weights of ``task`` that are sent ``in_bytes``; each tensor is asked for once, and not kept."""
    whole, start, kept = np.empty(sent_bytes(task), np.uint8), 0, {name for name, _ in task.kept}
    names = [(name, task.compression.down) for name in task.trained_spans]
    names += [(name, task.frozen.held_as) for name in task.frozen_spans if name not in kept]
    for name, form in names:
        values = tensors[name].detach().reshape(-1).to(_dtype(form)).view(torch.uint8).numpy()
        whole[start : start + values.size] = values
        start += values.size
    return whole


def apart(task: Task, sent: Tensor) -> Tuple[Tensor, Tensor]:
    """Return the trained weights of ``task``, float32, and those frozen ones that were ``sent``, as they are held."""
    if not in_bytes(task):
        split = task.sent - task.trained
        return sent[split:], sent[:split]
    if sent.dtype != torch.uint8 or sent.numel() != sent_bytes(task):
        raise ValueError(f"the weights must be {sent_bytes(task)} bytes, got {sent.numel()} {sent.dtype}")
    split = WEIGHTS[task.compression.down] * task.trained
    trained, frozen = sent[:split], sent[split:]
    return trained.view(_dtype(task.compression.down)).float(), frozen.view(_dtype(task.frozen.held_as))


def _dtype(form: str) -> torch.dtype:
    found: torch.dtype = getattr(torch, form)
    return found
