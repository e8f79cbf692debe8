"""A submodel as one vector: how its tensors lie end to end, and a model whose parameters are views into one.

One vector is what travels to a worker, what the optimizer steps over (one kernel instead of one a tensor) and what is
subtracted to give the update.
"""

from __future__ import annotations

import math
from typing import Dict, Mapping, NamedTuple, Sequence, Tuple

import torch
from torch import Tensor, nn

from cosp.models.transformer import Transformer, TransformerShape, layout_of
from cosp.submodel.layout import Layout
from cosp.submodel.plan import GroupSizes, SubmodelPlan
from cosp.submodel.slicing import State


class Span(NamedTuple):
    """Where one tensor lies in the vector."""

    start: int
    stop: int
    shape: Tuple[int, ...]


Spans = Dict[str, Span]


def spans_of(layout: Layout, counts: Sequence[GroupSizes]) -> Spans:
    """Return the span of every tensor of a submodel with ``counts[b]`` units in block b, in the layout's order."""
    spans: Spans = {}
    start = 0
    for name, entry in layout.items():
        if entry.held(len(counts)):
            shape = entry.sliced_shape(counts)
            spans[name] = Span(start, start + math.prod(shape), shape)
            start = spans[name].stop
    return spans


def length(spans: Spans) -> int:
    return max(span.stop for span in spans.values())


def views(vector: Tensor, spans: Spans) -> State:
    """Return the named tensors as views into ``vector``; ``ValueError`` if it has another length."""
    if vector.numel() != length(spans):
        raise ValueError(f"vector must have {length(spans)} entries, got {vector.numel()}")
    return {name: vector[span.start : span.stop].view(span.shape) for name, span in spans.items()}


def flatten(tensors: Mapping[str, Tensor], spans: Spans) -> Tensor:
    """Return the named tensors end to end, float32."""
    return torch.cat([tensors[name].reshape(-1).float() for name in spans])


class FlatModel:
    """A submodel whose parameters and gradients are views into the vectors ``weights`` and ``gradients``.

    Without ``trains`` it has room for no gradients: ``gradients`` is empty.
    """

    def __init__(self, shape: TransformerShape, plan: SubmodelPlan, device: torch.device, trains: bool = True) -> None:
        spans = spans_of(layout_of(shape), plan.counts)
        self.weights = torch.empty(length(spans), device=device)
        self.gradients = torch.zeros(length(spans) if trains else 0, device=device)
        with torch.device("meta"):  # shapes only: no time spent on values that are replaced at once
            self.module = Transformer(shape, plan)
        gradients = views(self.gradients, spans) if trains else {}
        for name, view in views(self.weights, spans).items():
            parameter = nn.Parameter(view, requires_grad=trains)
            parameter.grad = gradients.get(name)
            owner, _, leaf = name.rpartition(".")
            setattr(self.module.get_submodule(owner), leaf, parameter)
        self.module.to(device)  # moves the index buffers; the parameters are there already

    def load(self, vector: Tensor) -> None:
        with torch.no_grad():
            self.weights.copy_(vector)
