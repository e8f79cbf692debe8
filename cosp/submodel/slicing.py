"""Cut a submodel's tensors out of the global model, and put them back."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Dict, List, Mapping, Optional, Tuple, Union

import torch

from cosp.submodel.layout import Axis, Layout, ParameterLayout
from cosp.submodel.plan import SubmodelPlan, Units

if TYPE_CHECKING:
    from torch import Tensor

State = Dict[str, "Tensor"]
"""Parameter name -> tensor."""

Indices = Tuple[Optional["Tensor"], ...]
"""For each dimension the kept entries, or None where all are kept."""


def kept_indices(entry: ParameterLayout, plan: SubmodelPlan) -> Indices:
    """Return the entries of each dimension that ``plan`` keeps."""
    found: List[Optional[Tensor]] = []
    for size, axis in zip(entry.shape, entry.axes):
        units = None if axis is None else kept_units(entry, axis, plan)
        if axis is None or units is None or len(units) * axis.entries == size:
            found.append(None)
        else:
            found.append(_entries(units, axis.entries))
    return tuple(found)


def kept_units(entry: ParameterLayout, axis: Axis, plan: SubmodelPlan) -> Optional[Units]:
    """Return the units of ``axis`` that ``plan`` keeps; None where it keeps all words."""
    return plan.words if entry.block is None else plan.blocks[entry.block].of(axis.group)


def extract(state: Mapping[str, Tensor], layout: Layout, plan: SubmodelPlan) -> State:
    """Return the submodel's tensors; those kept whole are the global tensors themselves, not copies."""
    return {name: slice_of(state[name], entry, plan) for name, entry in layout.items() if entry.held(plan.depth)}


def slice_of(tensor: Tensor, entry: ParameterLayout, plan: SubmodelPlan) -> Tensor:
    """Return the kept entries of one global tensor."""
    for dimension, index in enumerate(kept_indices(entry, plan)):
        if index is not None:
            tensor = tensor.index_select(dimension, index)
    return tensor


def scatter(submodel: Mapping[str, Tensor], layout: Layout, plan: SubmodelPlan, into: State) -> State:
    """Return ``into`` with the submodel's tensors written at the kept entries; all others keep their value."""
    result = dict(into)
    for name, entry in layout.items():
        if entry.held(plan.depth):
            result[name] = into[name].clone()
            result[name][grid(kept_indices(entry, plan), entry.shape)] = submodel[name]
    return result


def grid(indices: Indices, shape: Tuple[int, ...]) -> Tuple[Union[slice, Tensor], ...]:
    """Return an advanced index that addresses the outer product of ``indices`` (``numpy.ix_`` for tensors)."""
    if sum(index is not None for index in indices) < 2:
        return tuple(slice(None) if index is None else index for index in indices)
    rank = len(shape)
    full = [torch.arange(size) if index is None else index for index, size in zip(indices, shape)]
    return tuple(index.view([-1 if d == i else 1 for d in range(rank)]) for i, index in enumerate(full))


@lru_cache(maxsize=4096)
def _entries(units: Units, entries: int) -> Tensor:
    starts = torch.tensor(units, dtype=torch.int64) * entries
    return (starts[:, None] + torch.arange(entries)).flatten()
