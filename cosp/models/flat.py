"""A model whose parameters and gradients are views into two vectors; :mod:`cosp.submodel.flat` says how they lie."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cosp.models.transformer import Transformer
from cosp.submodel.flat import length, spans_of, views
from cosp.submodel.plan import SubmodelPlan
from cosp.submodel.shape import TransformerShape, layout_of


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
