"""Q-ViT's quantisers: weights and inputs of a block's products rounded to few bits (Li et al. 2022, arXiv:2201.07703).

LSQ (Esser et al. 2020, arXiv:1902.08153): x is divided by a learned scale, clipped to the levels of b bits, rounded and
scaled back; rounding passes gradients straight through. The number of bits is learned too, between 2 and 8. All of it
is float32 arithmetic on float32 weights: nothing is saved in training.

Ours: what is learned is the logarithm of a scale over its usual start, so that it stays positive, and bits less their
start, so that fresh quantisers are zeros. Bits are one number a product, not one a head; the products of attention
itself, the embedding and the exits are left in float32.
"""

from __future__ import annotations

import math
from typing import List, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cosp.models.block import Block, BlockGates
from cosp.submodel.plan import BlockPlan
from cosp.submodel.shape import PRODUCTS, TransformerShape

BITS, LEAST, MOST = 4.0, 2.0, 8.0
INPUTS = (1.0, 0.5, 1.0, 0.5)
"""Usual deviations of the products' inputs: normed, mixed heads, normed, after the GELU."""


class Quantisers(nn.Module):
    """Scales and bits of one block: for each product those of its weight, then those of its input."""

    def __init__(self) -> None:
        super().__init__()
        self.offsets = nn.Parameter(torch.empty(4 * PRODUCTS))

    def product(self, i: int, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Return product number ``i`` with ``weight`` (out, in) and ``x`` (..., in) rounded."""
        weight_log_scale, weight_bits, log_scale, bits = self.offsets[4 * i : 4 * i + 4]
        spread = 0.5 * weight.shape[-1] ** -0.5  # of fresh weights
        rounded = quantise(weight, _scale(spread, weight_log_scale), bits_of(weight_bits))
        return F.linear(quantise(x, _scale(INPUTS[i], log_scale), bits_of(bits)), rounded, bias)

    def bits(self, i: int) -> Tuple[Tensor, Tensor]:
        """Return the bits of product ``i``'s weight and of its input."""
        return bits_of(self.offsets[4 * i + 1]), bits_of(self.offsets[4 * i + 3])


def quantise(x: Tensor, scale: Tensor, bits: Tensor) -> Tensor:
    """Return ``x`` on the grid of ``bits`` bits: scale times an integer in [-2^(b-1), 2^(b-1) - 1]."""
    levels = 2 ** (_rounded(bits) - 1)
    return _rounded(torch.minimum(torch.maximum(x / scale, -levels), levels - 1)) * scale


def bits_of(offset: Tensor) -> Tensor:
    return (BITS + offset).clamp(LEAST, MOST)


class QuantisedBlock(Block):
    """A whole block with rounded products."""

    def __init__(self, shape: TransformerShape, plan: BlockPlan) -> None:
        super().__init__(shape, plan)
        self.quantisers = Quantisers()

    def forward(self, x: Tensor, gates: Optional[BlockGates] = None, attended: Optional[Tensor] = None) -> Tensor:
        attention, ffn, product = self.attention, self.ffn, self.quantisers.product

        def mix(y: Tensor) -> Tensor:
            weight, bias = attention.qkv_weight.flatten(0, 1), attention.qkv_bias.flatten()
            q, k, v = attention.split(product(0, y, weight, bias))
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=attended).transpose(1, 2).flatten(2)
            return product(1, mixed, attention.out.weight, attention.out.bias)

        def feed(y: Tensor) -> Tensor:
            hidden = F.gelu(product(2, y, ffn.up.weight, ffn.up.bias), approximate=ffn.approximate)
            return product(3, hidden, ffn.down.weight, ffn.down.bias)

        return self.add(self.add(x, mix, self.norm1, None), feed, self.norm2, None)


def bits_penalty(all_quantisers: Sequence[Quantisers], weights: Sequence[int], target: float) -> Tensor:
    """Return |bit operations / those at ``target`` bits - 1|; ``weights`` are the entries of each product's matrix."""
    spent: List[Tensor] = []
    for quantisers in all_quantisers:
        for i, entries in enumerate(weights):
            of_weight, of_input = quantisers.bits(i)
            spent.append(entries * of_weight * of_input)
    at_target = len(all_quantisers) * sum(weights) * target**2
    return (torch.stack(spent).sum() / at_target - 1).abs()


def _scale(spread: float, log_factor: Tensor) -> Tensor:
    """Return LSQ's start, 2 mean |x| / sqrt(highest level) of a normal x with that deviation, times e^log_factor."""
    start = 2 * spread * math.sqrt(2 / math.pi) / math.sqrt(2 ** (BITS - 1) - 1)
    return start * log_factor.exp()


def _rounded(x: Tensor) -> Tensor:
    """Return ``x`` rounded, with the gradient of ``x``."""
    return x + (x.round() - x).detach()
