"""Training of models whose blocks decide or round: a penalty keeps what they use near a target."""

from __future__ import annotations

from typing import Iterator, Tuple, cast

from torch import Tensor

from cosp.models.adaptive import AdaptiveBlock, usage_penalty
from cosp.models.flat import FlatModel
from cosp.models.quantised import QuantisedBlock, bits_penalty
from cosp.seeds import torch_stream
from cosp.task.task import Task
from cosp.trainer.training import Judge, Passes, Targets


def penalised_passes(task: Task, model: FlatModel, judge: Judge) -> Passes:
    """Return what yields the loss of a step: that of the exits, and ``penalty`` times the model's own."""
    penalise = _adaptive if task.shape.variant == "adaptive" else _quantised
    return penalise(task, model, judge)


def _adaptive(task: Task, model: FlatModel, judge: Judge) -> Passes:
    policies = [cast(AdaptiveBlock, block).policy for block in model.module.blocks]
    generator = torch_stream(task.seed, "policies", task.client, task.version)

    def passes(x: Tensor, to: Targets) -> Iterator[Tuple[Tensor, Tensor]]:
        for policy in policies:
            policy.generator = generator  # noise in training alone
        loss, deepest = judge(model.module(x), to)
        for policy in policies:
            policy.generator = None
        yield loss + task.local.penalty * usage_penalty(policies, task.local.target), deepest

    return passes


def _quantised(task: Task, model: FlatModel, judge: Judge) -> Passes:
    quantisers = [cast(QuantisedBlock, block).quantisers for block in model.module.blocks]
    dim, hidden = task.shape.dim, task.shape.hidden
    entries = (3 * dim * dim, dim * dim, dim * hidden, dim * hidden)

    def passes(x: Tensor, to: Targets) -> Iterator[Tuple[Tensor, Tensor]]:
        loss, deepest = judge(model.module(x), to)
        yield loss + task.local.penalty * bits_penalty(quantisers, entries, task.local.target), deepest

    return passes
