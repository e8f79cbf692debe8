"""AdaViT's policies: which patches, heads and sub-layers of a block an image uses (Meng et al. 2022, arXiv:2111.15668).

Before each block three decisions are made from its input: heads and sub-layers from the class token, patches each from
itself. What is decided against is masked, so on its own it saves nothing in training. In training decisions are
drawn with Gumbel noise, straight through; otherwise they are made where their logit is above zero.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Optional, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cosp.models.block import Block, BlockGates
from cosp.submodel.plan import BlockPlan
from cosp.submodel.shape import TransformerShape

TEMPERATURE = 5.0
OPEN = 3.0
"""Added to every logit: a fresh policy, whose biases are zero, uses nearly everything."""


class Use(NamedTuple):
    """Decisions of one block, zeros and ones that carry a gradient: (batch, heads), (batch, 2), (batch, tokens)."""

    heads: Tensor
    branches: Tensor
    tokens: Tensor


class Policy(nn.Module):
    """Decides for one block; ``used`` is its latest decision and ``generator`` the source of noise in training."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.units = nn.Linear(dim, heads + 2)
        self.patches = nn.Linear(dim, 1)
        self.generator: Optional[torch.Generator] = None
        self.used: Optional[Use] = None

    def forward(self, x: Tensor) -> Use:
        units = self._decide(self.units(x[:, 0]))
        patches = self._decide(self.patches(x[:, 1:]).squeeze(-1))
        tokens = torch.cat([torch.ones_like(patches[:, :1]), patches], dim=1)  # the class token is always used
        self.used = Use(units[:, : self.heads], units[:, self.heads :], tokens)
        return self.used

    def _decide(self, logits: Tensor) -> Tensor:
        logits = logits.float() + OPEN
        if self.generator is not None:  # the difference of two Gumbel draws is logistic
            coins = torch.rand(logits.shape, generator=self.generator).clamp(1e-6, 1 - 1e-6)
            logits = (logits + torch.logit(coins).to(logits.device)) / TEMPERATURE
        soft = torch.sigmoid(logits)
        return (logits > 0).float() + soft - soft.detach()


class AdaptiveBlock(Block):
    """A whole block that masks what its policy decides against.

    A patch that is not used passes by on the residual stream: nobody attends to it, and nothing is added to it. Padding
    is decided on like any other token, whatever is decided.
    """

    def __init__(self, shape: TransformerShape, plan: BlockPlan) -> None:
        super().__init__(shape, plan)
        self.policy = Policy(shape.dim, shape.heads)

    def forward(self, x: Tensor, gates: Optional[BlockGates] = None, attended: Optional[Tensor] = None) -> Tensor:
        use = self.policy(x)
        used = use.tokens.detach().bool()[:, None, None, :]
        mask = used if attended is None else attended.masked_fill(~used, -math.inf)
        kept = use.tokens[:, :, None]

        def mix(y: Tensor) -> Tensor:
            q, k, v = self.attention.project(y)
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask) * use.heads[:, :, None, None]
            written: Tensor = self.attention.write(mixed) * kept * use.branches[:, :1, None]
            return written

        def feed(y: Tensor) -> Tensor:
            written: Tensor = self.ffn(y) * kept * use.branches[:, 1:, None]
            return written

        return self.add(self.add(x, mix, self.norm1, None), feed, self.norm2, None)


def usage_penalty(policies: Sequence[Policy], target: float) -> Tensor:
    """Return the sum over patches, heads and sub-layers of (mean use - target)^2, after a forward pass."""
    used = [policy.used for policy in policies if policy.used is not None]
    kinds = ([use.tokens[:, 1:] for use in used], [use.heads for use in used], [use.branches for use in used])
    return torch.stack([(torch.stack([part.mean() for part in kind]).mean() - target).square() for kind in kinds]).sum()
