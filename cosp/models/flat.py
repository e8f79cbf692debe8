"""A model whose parameters and gradients are views into two vectors; :mod:`cosp.submodel.flat` says how they lie."""

from __future__ import annotations

from collections import OrderedDict
from typing import List, Optional, Tuple

import torch
from torch import Tensor, nn

from cosp.models.block import Block
from cosp.models.transformer import Transformer
from cosp.submodel.flat import length, spans_of, views
from cosp.submodel.plan import GroupSizes, SubmodelPlan
from cosp.submodel.shape import TransformerShape, layout_of


class Frame:
    """The module of submodels with the same counts, without weights: what takes the most time of making a model."""

    def __init__(self, shape: TransformerShape, plan: SubmodelPlan) -> None:
        self.spans = spans_of(layout_of(shape), plan.counts)
        with torch.device("meta"):  # shapes only: no time spent on values that are replaced at once
            self.module = Transformer(shape, plan)
        self._blocks: List[Block] = list(self.module.blocks)  # type: ignore[arg-type]
        self._places: List[Tuple[nn.Module, str]] = []
        for name in self.spans:
            owner, _, leaf = name.rpartition(".")
            self._places.append((self.module.get_submodule(owner), leaf))
        self.clear()

    def fill(self, weights: Tensor, gradients: Optional[Tensor], plan: SubmodelPlan) -> None:
        """Have the module compute with ``weights``, and where there are ``gradients`` collect them there."""
        slopes = None if gradients is None else views(gradients, self.spans)
        for (owner, leaf), (name, view) in zip(self._places, views(weights, self.spans).items()):
            parameter = nn.Parameter(view, requires_grad=slopes is not None)
            if slopes is not None:
                parameter.grad = slopes[name]
            owner._parameters[leaf] = parameter
        for block, kept in zip(self._blocks, plan.blocks):
            block.place(kept, weights.device)

    def clear(self) -> None:
        """Let go of the weights."""
        for owner, leaf in self._places:
            owner._parameters[leaf] = None


class Frames:
    """Keeps the frames that were used last; one is lent to one model at a time."""

    def __init__(self, kept: int = 32) -> None:
        self._kept = kept
        self._frames: OrderedDict[Tuple[TransformerShape, Tuple[GroupSizes, ...]], Frame] = OrderedDict()

    def take(self, shape: TransformerShape, plan: SubmodelPlan) -> Frame:
        """Return a frame for ``plan``; nobody else has it until it is put back."""
        return self._frames.pop((shape, plan.counts), None) or Frame(shape, plan)

    def put_back(self, shape: TransformerShape, plan: SubmodelPlan, frame: Frame) -> None:
        """Keep ``frame`` for the next model, without weights; blocks of other variants remember too much."""
        frame.clear()
        if shape.variant == "plain":
            self._frames[shape, plan.counts] = frame
            if len(self._frames) > self._kept:
                self._frames.popitem(last=False)


class FlatModel:
    """A submodel whose parameters and gradients are views into the vectors ``weights`` and ``gradients``.

    Without ``trains`` it has room for no gradients: ``gradients`` is empty. ``frame`` is one to compute in, if there is
    one already.
    """

    def __init__(
        self,
        shape: TransformerShape,
        plan: SubmodelPlan,
        device: torch.device,
        trains: bool = True,
        frame: Optional[Frame] = None,
    ) -> None:
        frame = frame or Frame(shape, plan)
        self.weights = torch.empty(length(frame.spans), device=device)
        self.gradients = torch.zeros(length(frame.spans) if trains else 0, device=device)
        self.module = frame.module
        frame.fill(self.weights, self.gradients if trains else None, plan)

    def load(self, vector: Tensor) -> None:
        with torch.no_grad():
            self.weights.copy_(vector)
