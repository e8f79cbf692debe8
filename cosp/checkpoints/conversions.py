"""How tensors of other libraries become ours, and ours theirs again."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from cosp.models import TransformerShape, ViTShape

if TYPE_CHECKING:
    from torch import Tensor

Inward = Callable[[Sequence["Tensor"], TransformerShape], "Tensor"]
Outward = Callable[["Tensor", TransformerShape], Sequence["Tensor"]]


@dataclass(frozen=True)
class Conversion:
    """Some of their tensors to one of ours, and back. ``outward`` of a tensor without values tells their shapes.

    ``resized``: theirs may have another number of rows, all but the last dimension of the tensor that is named first.
    """

    inward: Inward
    outward: Outward
    resized: bool = False


SAME = Conversion(lambda theirs, shape: theirs[0], lambda ours, shape: [ours])

STACKED = Conversion(lambda theirs, shape: torch.stack(list(theirs)), lambda ours, shape: ours.unbind(0))
"""Queries, keys and values, each a tensor of its own."""

FUSED = Conversion(
    lambda theirs, shape: theirs[0].reshape(3, -1, *theirs[0].shape[1:]),
    lambda ours, shape: [ours.flatten(0, 1)],
)
"""Queries, keys and values below each other in one tensor."""

OWN_TOKENS = Conversion(
    lambda theirs, shape: torch.cat(list(theirs), dim=1),
    lambda ours, shape: ours.tensor_split(ours.shape[1], dim=1),
)
"""Each token of the model's own as a tensor (1, 1, dim)."""


def _kernel_of(ours: Tensor, shape: TransformerShape) -> Sequence[Tensor]:
    assert isinstance(shape, ViTShape)
    return [ours.reshape(-1, shape.channels, shape.patch, shape.patch)]


KERNEL = Conversion(lambda theirs, shape: theirs[0].flatten(1), _kernel_of)
"""A convolution (dim, channels, patch, patch) that steps by its own size."""


def _grid(theirs: Sequence[Tensor], shape: TransformerShape) -> Tensor:
    """Return positions (1, tokens, dim), those of patches interpolated where the image has another size."""
    positions, own = theirs[0], shape.trunk.own_tokens
    if positions.shape[1] == shape.tokens:
        return positions
    side, wanted = math.isqrt(positions.shape[1] - own), math.isqrt(shape.input_tokens)
    patches = positions[:, own:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    found = torch.nn.functional.interpolate(patches, size=(wanted, wanted), mode="bicubic", align_corners=False)
    return torch.cat([positions[:, :own], found.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)


GRID = Conversion(_grid, lambda ours, shape: [ours], resized=True)
"""Positions of patches, row by row, behind those of the model's own tokens."""


def word_positions(first: int, segments: int) -> Conversion:
    """Return the conversion of a table of positions whose row ``first`` is that of the first word.

    With ``segments`` the embedding of segment 0, which all words of ours belong to, is added. Going back rows before
    ``first`` and all segments are zero.
    """

    def inward(theirs: Sequence[Tensor], shape: TransformerShape) -> Tensor:
        found = theirs[0][first : first + shape.tokens]
        return (found + theirs[1][0] if segments else found).unsqueeze(0)

    def outward(ours: Tensor, shape: TransformerShape) -> Sequence[Tensor]:
        table = ours.new_zeros(first + ours.shape[1], shape.dim)
        table[first:] = ours[0]  # torch.cat of tensors without values would import torch's compiler, for seconds
        return [table, ours.new_zeros(segments, shape.dim)] if segments else [table]

    return Conversion(inward, outward, resized=True)
