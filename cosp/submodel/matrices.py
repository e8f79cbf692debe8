"""Which tensors are weight matrices: those that methods mask weight by weight."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Callable, Dict, Sequence

import torch

from cosp.seeds import torch_stream
from cosp.submodel.flat import spans_of
from cosp.submodel.layout import ParameterLayout
from cosp.submodel.plan import GroupSizes
from cosp.submodel.shape import TransformerShape, layout_of

if TYPE_CHECKING:
    from torch import Tensor

Which = Callable[[str, ParameterLayout], bool]


def block_matrices(name: str, entry: ParameterLayout) -> bool:
    """Tell the weight matrices of blocks: what FIARSE and PLATON mask. A fresh bias is zero and would never be on."""
    return entry.block is not None and all_matrices(name, entry)


def all_matrices(name: str, entry: ParameterLayout) -> bool:
    """Tell all weight matrices, embedding and exits too: what FedPM masks."""
    return len(entry.shape) > 1 and name.endswith("weight")  # torch's own word for what an input is multiplied by


def marked(shape: TransformerShape, counts: Sequence[GroupSizes], which: Which) -> Tensor:
    """Return a boolean vector over a submodel's weights, end to end, true in the tensors that ``which`` tells."""
    layout = layout_of(shape)
    spans = spans_of(layout, counts)
    return torch.cat([torch.full((math.prod(span.shape),), which(name, layout[name])) for name, span in spans.items()])


def marked_count(shape: TransformerShape, counts: Sequence[GroupSizes], which: Which) -> int:
    """Return how many weights :func:`marked` marks."""
    layout = layout_of(shape)
    return sum(math.prod(s.shape) for name, s in spans_of(layout, counts).items() if which(name, layout[name]))


def signed_weights(shape: TransformerShape, seed: int) -> Dict[str, Tensor]:
    """Return FedPM's frozen weights: +-1 / sqrt(inputs), the same to whoever knows the seed.

    The original draws +-e / sqrt(inputs) for networks without norms.
    """
    found = {}
    for name, entry in layout_of(shape).items():
        if all_matrices(name, entry):
            coins = torch.rand(entry.shape, generator=torch_stream(seed, "signed weights", name))
            found[name] = torch.where(coins < 0.5, -1.0, 1.0) * entry.shape[-1] ** -0.5
    return found
