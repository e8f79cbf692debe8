"""A model whose parameters and gradients are views into two vectors; :mod:`cosp.submodel.flat` says how they lie."""

from __future__ import annotations

from collections import OrderedDict
from typing import Callable, Dict, List, Optional, Tuple

import torch
from torch import Tensor, nn

from cosp.models.block import Block
from cosp.models.transformer import Transformer
from cosp.submodel.flat import length, spans_of, trained_spans_of, views
from cosp.submodel.frozen import NOTHING, Frozen
from cosp.submodel.plan import GroupSizes, SubmodelPlan
from cosp.submodel.shape import TransformerShape, layout_of


class Frame:
    """The module of submodels with the same counts, without weights: what takes the most time of making a model."""

    def __init__(self, shape: TransformerShape, plan: SubmodelPlan, frozen: Frozen = NOTHING) -> None:
        self.trained = trained_spans_of(layout_of(shape), plan.counts, frozen)
        spans = spans_of(layout_of(shape), plan.counts, frozen)
        self.frozen = {name: span for name, span in spans.items() if name not in self.trained}
        with torch.device("meta"):  # shapes only: no time spent on values that are replaced at once
            self.module = Transformer(shape, plan)
        self._blocks: List[Block] = list(self.module.blocks)  # type: ignore[arg-type]
        self._places: Dict[str, Tuple[nn.Module, str]] = {}
        for name in spans:
            owner, _, leaf = name.rpartition(".")
            self._places[name] = self.module.get_submodule(owner), leaf
        self.clear()

    def fill(self, weights: Tensor, gradients: Optional[Tensor], plan: SubmodelPlan) -> None:
        """Have the module compute with the trained ``weights``; where there are ``gradients``, collect them there."""
        slopes = None if gradients is None else views(gradients, self.trained)
        for name, view in views(weights, self.trained).items():
            parameter = nn.Parameter(view, requires_grad=slopes is not None)
            if slopes is not None:
                parameter.grad = slopes[name]
            self._put(name, parameter)
        for block, kept in zip(self._blocks, plan.blocks):
            block.place(kept, weights.device)

    def fill_frozen(self, weights: Tensor) -> None:
        """Have the module compute with ``weights``, which are never written to."""
        for name, view in views(weights, self.frozen).items():
            self._put(name, nn.Parameter(view, requires_grad=False))

    def clear(self) -> None:
        """Let go of the weights."""
        for name in self._places:
            self._put(name, None)

    def _put(self, name: str, parameter: Optional[nn.Parameter]) -> None:
        owner, leaf = self._places[name]
        owner._parameters[leaf] = parameter


class Frames:
    """Keeps the frames that were used last; one is lent to one model at a time."""

    def __init__(self, kept: int = 32, make: Callable[[TransformerShape, SubmodelPlan, Frozen], Frame] = Frame) -> None:
        self._kept, self._make = kept, make
        self._frames: OrderedDict[Tuple[TransformerShape, Tuple[GroupSizes, ...], Frozen], Frame] = OrderedDict()

    def take(self, shape: TransformerShape, plan: SubmodelPlan, frozen: Frozen = NOTHING) -> Frame:
        """Return a frame for ``plan``; nobody else has it until it is put back."""
        return self._frames.pop((shape, plan.counts, frozen), None) or self._make(shape, plan, frozen)

    def put_back(self, shape: TransformerShape, plan: SubmodelPlan, frame: Frame, frozen: Frozen = NOTHING) -> None:
        """Keep ``frame`` for the next model, without weights; blocks of other variants remember too much."""
        frame.clear()
        if shape.variant == "plain":
            self._frames[shape, plan.counts, frozen] = frame
            if len(self._frames) > self._kept:
                self._frames.popitem(last=False)


class FlatModel:
    """A submodel whose trained parameters and their gradients are views into the vectors ``weights`` and ``gradients``;
    those that are frozen are views into what is loaded.

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
        frozen: Frozen = NOTHING,
    ) -> None:
        frame = frame or Frame(shape, plan, frozen)
        self.weights = torch.empty(length(frame.trained), device=device)
        self.gradients = torch.zeros(length(frame.trained) if trains else 0, device=device)
        self.module = frame.module
        self._frame, self._frozen = frame, length(frame.frozen)
        self._held_as: torch.dtype = getattr(torch, frozen.held_as)
        frame.fill(self.weights, self.gradients if trains else None, plan)

    def load(self, vector: Tensor, frozen: Optional[Tensor] = None) -> None:
        """Take the weights: what is frozen, then what is trained, or the two apart. Frozen ones stay where they are,
        if they are there in the format that they are held in.
        """
        if frozen is None:
            frozen, vector = vector[: self._frozen], vector[self._frozen :]
        with torch.no_grad():
            self.weights.copy_(vector)
        self._frame.fill_frozen(frozen.to(self.weights.device, self._held_as))
