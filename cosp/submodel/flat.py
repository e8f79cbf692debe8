"""A submodel as one vector: how its tensors lie end to end, and a model whose parameters are views into one.

One vector is what travels to a worker, what the optimizer steps over (one kernel instead of one a tensor) and what is
subtracted to give the update.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Callable, Dict, Mapping, NamedTuple, Sequence, Tuple

import torch

from cosp.submodel.frozen import NOTHING, Frozen
from cosp.submodel.layout import Layout
from cosp.submodel.plan import GroupSizes
from cosp.submodel.slicing import State

if TYPE_CHECKING:
    from torch import Tensor


class Span(NamedTuple):
    """Where one tensor lies in the vector."""

    start: int
    stop: int
    shape: Tuple[int, ...]


Spans = Dict[str, Span]


def spans_of(layout: Layout, counts: Sequence[GroupSizes], frozen: Frozen = NOTHING) -> Spans:
    """Return the span of every tensor of a submodel with ``counts[b]`` units in block b, in the layout's order.

    What is ``frozen`` stands before all that is trained, so that each is one vector.
    """
    held = {name: entry for name, entry in layout.items() if entry.held(len(counts))}
    return _end_to_end({name: held[name].sliced_shape(counts) for name in sorted(held, key=_behind(held, frozen))})


def trained_spans_of(layout: Layout, counts: Sequence[GroupSizes], frozen: Frozen = NOTHING) -> Spans:
    """Return the spans of the tensors that are trained, in the vector of those alone."""
    held = {name: entry for name, entry in layout.items() if entry.held(len(counts)) and not frozen.holds(entry)}
    return _end_to_end({name: entry.sliced_shape(counts) for name, entry in held.items()})


def _behind(held: Layout, frozen: Frozen) -> Callable[[str], bool]:
    """Return what puts trained tensors behind frozen ones and else changes no order."""
    return lambda name: not frozen.holds(held[name])


def _end_to_end(shapes: Mapping[str, Tuple[int, ...]]) -> Spans:
    spans: Spans = {}
    start = 0
    for name, shape in shapes.items():
        spans[name] = Span(start, start + math.prod(shape), shape)
        start = spans[name].stop
    return spans


def length(spans: Spans) -> int:
    return max((span.stop for span in spans.values()), default=0)


def views(vector: Tensor, spans: Spans) -> State:
    """Return the named tensors as views into ``vector``; ``ValueError`` if it has another length."""
    if vector.numel() != length(spans):
        raise ValueError(f"vector must have {length(spans)} entries, got {vector.numel()}")
    return {name: vector[span.start : span.stop].view(span.shape) for name, span in spans.items()}


def flatten(tensors: Mapping[str, Tensor], spans: Spans) -> Tensor:
    """Return the named tensors end to end, float32."""
    return torch.cat([tensors[name].reshape(-1).float() for name in spans])
