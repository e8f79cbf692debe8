"""A transformer with exit heads whose blocks can be physically narrow.

At full width and depth this is a textbook pre-norm encoder (Vaswani et al. 2017, arXiv:1706.03762; Dosovitskiy et al.
2021, arXiv:2010.11929): input tokens, class token, learned positions, blocks of attention and GELU feed-forward,
LayerNorm and a linear head on the class token, or on the mean of all tokens. It differs in two ways: a head may stand
after any block (an *exit*), and a block may hold only some of its units, in which case a branch with fewer rows is
added to the residual stream at its kept coordinates.

What makes tokens of a sample stands in ``vit.py`` (patches of an image), ``text.py`` (words) and ``series.py`` (patches
along time).
"""

from __future__ import annotations

from typing import Dict, List, Optional, Sequence, Type

import torch
from torch import Tensor, nn

from cosp.models.adaptive import AdaptiveBlock
from cosp.models.block import Block, BlockGates
from cosp.models.quantised import QuantisedBlock
from cosp.submodel.plan import SubmodelPlan
from cosp.submodel.shape import TransformerShape

BLOCKS: Dict[str, Type[Block]] = {"plain": Block, "adaptive": AdaptiveBlock, "quantised": QuantisedBlock}


class Transformer(nn.Module):
    """The submodel of ``shape`` that ``plan`` names; without a plan the whole model."""

    def __init__(self, shape: TransformerShape, plan: Optional[SubmodelPlan] = None) -> None:
        super().__init__()
        plan = plan or shape.full_plan()
        self.shape = shape
        self.exit_positions = shape.exits_within(plan.depth)
        if not self.exit_positions:
            raise ValueError(f"a submodel needs an exit: depth {plan.depth} is before the first exit {shape.exits[0]}")
        self.class_token = nn.Parameter(torch.empty(1, 1, shape.dim))
        self.positions = nn.Parameter(torch.empty(1, shape.tokens, shape.dim))
        self.inputs = shape.inputs()
        self.blocks = nn.ModuleList(BLOCKS[shape.variant](shape, block) for block in plan.blocks)
        self.exits = nn.ModuleList(Exit(shape) for _ in self.exit_positions)

    def forward(self, samples: Tensor, gates: Optional[Sequence[BlockGates]] = None) -> List[Tensor]:
        """Return the logits ``(batch, classes)`` of every exit, shallow to deep, for samples (batch, *sample_shape).

        ``gates`` multiplies the units of each full-width block: scores are learned through it, and a model masked with
        0/1 gates computes what the extracted submodel computes.
        """
        x = self.embed(samples)
        logits: List[Tensor] = []
        for i, block in enumerate(self.blocks):
            x = block(x, None if gates is None else gates[i])
            if i + 1 in self.exit_positions:
                logits.append(self.exits[len(logits)](x.mean(1) if self.shape.pooling == "mean" else x[:, 0]))
        return logits

    def embed(self, samples: Tensor) -> Tensor:
        """Return the first residual stream (batch, tokens, dim): class token, then the input's tokens in order."""
        tokens = self.inputs(samples)
        return torch.cat([self.class_token.expand(len(tokens), -1, -1), tokens], dim=1) + self.positions


class Exit(nn.Module):
    """LayerNorm and a linear classifier on what is read of the tokens: (batch, dim) to (batch, classes)."""

    def __init__(self, shape: TransformerShape) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(shape.dim)
        self.head = nn.Linear(shape.dim, shape.classes)

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.head(self.norm(features))
        return logits


def initialise(model: Transformer, generator: torch.Generator) -> None:
    """Draw fresh weights in place.

    Normal with deviation 0.5 / sqrt(fan in), clipped at two deviations (0.02 at the width 768 of ViT-B); class token
    0.02; positions as the shape says; words 0.5, as strong as patches of normalised images; zero biases; unit
    LayerNorms.
    """
    with torch.no_grad():
        for module in model.modules():
            for parameter in module.parameters(recurse=False):
                if isinstance(module, nn.LayerNorm):
                    parameter.fill_(1.0 if parameter is module.weight else 0.0)
                elif parameter is model.positions:
                    parameter.normal_(0.0, model.shape.position_deviation, generator=generator)
                elif isinstance(module, nn.Embedding):
                    parameter.normal_(0.0, 0.5, generator=generator)
                elif parameter is model.class_token:
                    parameter.normal_(0.0, 0.02, generator=generator)
                elif parameter.dim() == 1 or parameter is getattr(module, "qkv_bias", None):
                    parameter.zero_()
                else:
                    deviation = 0.5 * parameter.shape[-1] ** -0.5
                    parameter.normal_(0.0, deviation, generator=generator).clamp_(-2 * deviation, 2 * deviation)
