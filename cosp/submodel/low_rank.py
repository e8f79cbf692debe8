"""What becomes of adapters: how they begin, the product that they are, and the weights that they are folded into."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Dict, Iterator, Mapping, NamedTuple, Tuple

import torch

from cosp.seeds import torch_stream
from cosp.submodel.adapters import READS_STREAM, place
from cosp.submodel.layout import Layout, ParameterLayout
from cosp.submodel.plan import SubmodelPlan
from cosp.submodel.shape import TransformerShape, layout_of
from cosp.submodel.slicing import State

if TYPE_CHECKING:
    from torch import Tensor


class Pair(NamedTuple):
    """One adapter: the names of its matrices, and of the weights beside it, whose part is ``part`` (None: all)."""

    projection: str
    a: str
    b: str
    weight: str
    part: Any


def pairs_of(shape: TransformerShape) -> Iterator[Pair]:
    """Yield every adapter of the model, block by block."""
    names = () if shape.adapters is None else shape.adapters.projections
    for block in range(shape.blocks):
        for name in names:
            inside = f"blocks.{block}.{place(name)}"
            owner = inside.rpartition(".adapters.")[0]
            fused = name in READS_STREAM
            weight = "qkv_weight" if fused else {"output": "out.weight"}.get(name, f"{name}.weight")
            part = READS_STREAM.index(name) if fused else ...
            yield Pair(name, f"{inside}.a", f"{inside}.b", f"{owner}.{weight}", part)


def drawn(shape: TransformerShape, seed: int, turn: int = 0) -> State:
    """Return fresh adapters: A normal with variance 1 / inputs, from a stream of its own each, and B zeros."""
    layout, found = layout_of(shape), {}
    for pair in pairs_of(shape):
        sizes = layout[pair.a].shape
        chance = torch_stream(seed, "adapter", pair.a, turn)
        found[pair.a] = torch.randn(sizes, generator=chance) * sizes[1] ** -0.5
        found[pair.b] = torch.zeros(layout[pair.b].shape)
    return found


def products(state: Mapping[str, Tensor], shape: TransformerShape) -> State:
    """Return B A of every adapter in ``state``, by the name of its place."""
    return {product_name(pair): state[pair.b] @ state[pair.a] for pair in pairs_of(shape) if pair.a in state}


def product_name(pair: Pair) -> str:
    return pair.a[: -len(".a")]


def product_layout(shape: TransformerShape) -> Layout:
    """Return where units lie in what :func:`products` returns of the whole model."""
    layout, found = layout_of(shape), {}
    for pair in pairs_of(shape):
        a, b = layout[pair.a], layout[pair.b]
        found[product_name(pair)] = ParameterLayout((b.shape[0], a.shape[1]), (b.axes[0], a.axes[1]), block=a.block)
    return found


def norm_of_products(state: Mapping[str, Tensor], shape: TransformerShape) -> float:
    """Return the Frobenius norm of all B A in ``state`` together, by products of thin matrices alone."""
    total = 0.0
    for pair in pairs_of(shape):
        if pair.a in state:
            a, b = state[pair.a].double(), state[pair.b].double()
            total += float(((b.T @ b) * (a @ a.T)).sum())
    return math.sqrt(max(total, 0.0))


def moved(state: State, shape: TransformerShape, by: Mapping[str, Tensor]) -> State:
    """Return ``state`` with the products in ``by`` added to the weights beside which their adapters stand."""
    changed: Dict[str, Tensor] = {}
    for pair in pairs_of(shape):
        if product_name(pair) in by:
            weight = changed.setdefault(pair.weight, state[pair.weight].clone())
            weight[pair.part] += by[product_name(pair)]
    return {**state, **changed}


def folded(state: State, shape: TransformerShape) -> Tuple[State, TransformerShape]:
    """Return the model that computes the same without adapters."""
    bare: Any = shape
    plain = replace(bare, adapters=None)
    merged = moved(state, shape, products(state, shape))
    return {name: merged[name] for name in layout_of(plain)}, plain


def without_ranks(plan: SubmodelPlan) -> SubmodelPlan:
    """Return ``plan`` as a model without adapters has it."""
    return replace(plan, blocks=tuple(replace(block, ranks=()) for block in plan.blocks))
