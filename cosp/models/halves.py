"""Weights that may be halves, as a board can hold those that it does not train: a product is computed in float32 from
cast weights, which are cast again for the backward pass, so that no copy of them is kept in between.

Everything else casts what it reads of them when it reads it; of float32 weights nothing is cast.
"""

from __future__ import annotations

from typing import Any, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def whole(tensor: Tensor) -> Tensor:
    """Return ``tensor`` as float32 if it holds halves, else itself."""
    return tensor.float() if tensor.element_size() == 2 else tensor


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return x W^T + b, of halves with a gradient for ``x`` alone."""
    if weight.element_size() > 2:
        return F.linear(x, weight, bias)
    product: Tensor = _Product.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    return product


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.weight = weight  # not "saved": a block that is computed twice must not be for its sake
        return F.linear(x, weight.float(), bias.float())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tuple[Tensor, None, None]:
        weight = ctx.weight.float()
        flat = gradient.flatten(0, -2) @ weight  # as F.linear's own
        return flat.view(*gradient.shape[:-1], weight.shape[1]), None, None


class Linear(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


class LayerNorm(nn.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.normalized_shape, whole(self.weight), whole(self.bias), self.eps)


class Embedding(nn.Embedding):
    def forward(self, words: Tensor) -> Tensor:
        return whole(super().forward(words))
