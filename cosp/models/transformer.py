"""A transformer with exit heads whose blocks can be physically narrow.

At full width and depth this is a textbook pre-norm encoder (Vaswani et al. 2017, arXiv:1706.03762; Dosovitskiy et al.
2021, arXiv:2010.11929): input tokens, class token, learned positions, blocks of attention and GELU feed-forward,
LayerNorm and a linear head on the class token, or on the mean of all tokens. It differs in two ways: a head may stand
after any block (an *exit*), and a block may hold only some of its units, in which case a branch with fewer rows is
added to the residual stream at its kept coordinates.

What makes tokens of a sample stands in ``vit.py`` (patches of an image) and ``text.py`` (words).
"""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import ClassVar, Dict, List, Optional, Sequence, Tuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cosp.models.adaptive import Policy, adaptive_block, policy_shapes
from cosp.models.quantised import PRODUCTS, Quantisers, quantised_block
from cosp.submodel.layout import Axis, Layout, ParameterLayout, whole
from cosp.submodel.plan import BlockPlan, GroupSizes, SubmodelPlan, full_plan

POOLINGS = ("mean", "class")
VARIANTS = ("plain", "adaptive", "quantised")

BlockGates = Dict[str, Tensor]
"""Group name -> a factor for each unit of that group in one full-width block; 0 removes the unit."""


class TransformerShape:
    """What fixes a transformer; ``ViTShape`` and ``TextShape`` are the frozen values, each with its kind of input.

    ``exits`` are block counts after which an exit head stands, ascending. ``pooling`` is what an exit reads: the
    "mean" of all tokens, which learns faster from little data (Beyer et al. 2022, arXiv:2205.01580), or the "class"
    token alone. ``variant`` is what a method needs the blocks to have beside the textbook's parts: AdaViT's policies
    or Q-ViT's quantisers.
    """

    classes: int
    dim: int
    blocks: int
    heads: int
    hidden: int
    exits: Tuple[int, ...]
    pooling: str
    variant: str

    position_deviation: ClassVar[float]
    """Of fresh positions."""

    def __post_init__(self) -> None:
        if self.pooling not in POOLINGS:
            raise ValueError(f"pooling must be one of {POOLINGS}, got {self.pooling!r}")
        if self.variant not in VARIANTS:
            raise ValueError(f"variant must be one of {VARIANTS}, got {self.variant!r}")
        if self.dim % self.heads:
            raise ValueError(f"heads must divide dim, got heads {self.heads}, dim {self.dim}")
        ascending = all(a < b for a, b in zip(self.exits, self.exits[1:]))
        if not self.exits or not ascending or self.exits[0] < 1 or self.exits[-1] != self.blocks:
            raise ValueError(f"exits must ascend from >= 1 to blocks = {self.blocks}, got {self.exits}")

    @property
    def input_tokens(self) -> int:
        """How many tokens a sample is made into."""
        raise NotImplementedError

    @property
    def sample_shape(self) -> Tuple[int, ...]:
        """Shape of one sample, four bytes an entry."""
        raise NotImplementedError

    @property
    def input_macs(self) -> int:
        """Multiply-adds that make one sample into tokens."""
        return 0

    @property
    def table(self) -> int:
        """Parameters of a table that tokens are looked up in, 0 without one: read row by row, never multiplied."""
        return 0

    def inputs(self) -> nn.Module:
        """Return the module that makes samples (batch, *sample_shape) into tokens (batch, input_tokens, dim)."""
        raise NotImplementedError

    def inputs_layout(self) -> Layout:
        """Return the shapes of that module's parameters; they are never sliced."""
        raise NotImplementedError

    @property
    def tokens(self) -> int:
        """Length of the sequence: the input's and the class token."""
        return self.input_tokens + 1

    @property
    def head_dim(self) -> int:
        return self.dim // self.heads

    @cached_property
    def sizes(self) -> GroupSizes:
        return GroupSizes(heads=self.heads, attention_rows=self.dim, hidden=self.hidden, ffn_rows=self.dim)

    def full_plan(self, depth: Optional[int] = None) -> SubmodelPlan:
        return full_plan(self.sizes, self.blocks if depth is None else depth)

    def exits_within(self, depth: int) -> Tuple[int, ...]:
        return tuple(position for position in self.exits if position <= depth)


def quarter_exits(blocks: int) -> Tuple[int, ...]:
    """Return the paper's exit positions floor(B/4), floor(B/2), floor(3B/4), B, without repeats or zero."""
    return tuple(sorted({max(1, blocks * quarter // 4) for quarter in (1, 2, 3, 4)}))


@lru_cache(maxsize=64)
def layout_of(shape: TransformerShape) -> Layout:
    """Return where the units lie in each parameter of ``Transformer(shape)``; shared, so not to be changed."""
    dim, hidden = shape.dim, shape.hidden
    layout: Layout = {
        "class_token": whole(1, 1, dim),
        "positions": whole(1, shape.tokens, dim),
        **{f"inputs.{name}": entry for name, entry in shape.inputs_layout().items()},
    }
    heads = Axis("heads", shape.head_dim)
    attention_row, unit, ffn_row = Axis("attention_rows"), Axis("hidden"), Axis("ffn_rows")
    for b in range(shape.blocks):
        sliced = {
            "norm1.weight": ((dim,), (None,)),
            "norm1.bias": ((dim,), (None,)),
            "attention.qkv_weight": ((3, dim, dim), (None, heads, None)),
            "attention.qkv_bias": ((3, dim), (None, heads)),
            "attention.out.weight": ((dim, dim), (attention_row, heads)),
            "attention.out.bias": ((dim,), (attention_row,)),
            "norm2.weight": ((dim,), (None,)),
            "norm2.bias": ((dim,), (None,)),
            "ffn.up.weight": ((hidden, dim), (unit, None)),
            "ffn.up.bias": ((hidden,), (unit,)),
            "ffn.down.weight": ((dim, hidden), (ffn_row, unit)),
            "ffn.down.bias": ((dim,), (ffn_row,)),
        }
        for name, (size, axes) in sliced.items():
            layout[f"blocks.{b}.{name}"] = ParameterLayout(size, axes, block=b)
        if shape.variant == "adaptive":
            policy = policy_shapes(dim, shape.heads)
            layout.update({f"blocks.{b}.{name}": whole(*size, block=b) for name, size in policy.items()})
        if shape.variant == "quantised":
            layout[f"blocks.{b}.quantisers.offsets"] = whole(4 * PRODUCTS, block=b)
    for i, after in enumerate(shape.exits):
        layout[f"exits.{i}.norm.weight"] = whole(dim, exit_after=after)
        layout[f"exits.{i}.norm.bias"] = whole(dim, exit_after=after)
        layout[f"exits.{i}.head.weight"] = whole(shape.classes, dim, exit_after=after)
        layout[f"exits.{i}.head.bias"] = whole(shape.classes, exit_after=after)
    return layout


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
        self.blocks = nn.ModuleList(Block(shape, block) for block in plan.blocks)
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


class Block(nn.Module):
    """One pre-norm block: x + attention(norm(x)), then x + ffn(norm(x)), each added where its rows are kept."""

    attention_rows: Optional[Tensor]
    ffn_rows: Optional[Tensor]

    def __init__(self, shape: TransformerShape, plan: BlockPlan) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(shape.dim)
        self.attention = Attention(shape, heads=len(plan.heads), rows=len(plan.attention_rows))
        self.norm2 = nn.LayerNorm(shape.dim)
        self.ffn = FeedForward(shape, units=len(plan.hidden), rows=len(plan.ffn_rows))
        self.register_buffer("attention_rows", _rows(plan.attention_rows, shape.dim), persistent=False)
        self.register_buffer("ffn_rows", _rows(plan.ffn_rows, shape.dim), persistent=False)
        self.policy = Policy(shape.dim, shape.heads) if shape.variant == "adaptive" else None
        self.quantisers = Quantisers() if shape.variant == "quantised" else None

    def forward(self, x: Tensor, gates: Optional[BlockGates] = None) -> Tensor:
        if self.policy is not None:
            return adaptive_block(self, self.policy, x)
        if self.quantisers is not None:
            return quantised_block(self, self.quantisers, x)
        x = add_rows(x, self.attention(self.norm1(x), gates), self.attention_rows)
        return add_rows(x, self.ffn(self.norm2(x), gates), self.ffn_rows)


class Attention(nn.Module):
    """Multi-head self-attention with ``heads`` of the model's heads, writing ``rows`` residual coordinates."""

    def __init__(self, shape: TransformerShape, heads: int, rows: int) -> None:
        super().__init__()
        self.heads = heads
        inner = heads * shape.head_dim
        self.qkv_weight = nn.Parameter(torch.empty(3, inner, shape.dim))
        self.qkv_bias = nn.Parameter(torch.empty(3, inner))
        self.out = nn.Linear(inner, rows)

    def forward(self, x: Tensor, gates: Optional[BlockGates] = None) -> Tensor:
        q, k, v = self.project(x)
        mixed = F.scaled_dot_product_attention(q, k, v)  # scale head_dim ** -0.5
        if gates is None:
            return self.write(mixed)
        return self.write(mixed * gates["heads"].view(-1, 1, 1)) * gates["attention_rows"]

    def project(self, x: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values, (batch, heads, tokens, head_dim) each."""
        return self.split(F.linear(x, self.qkv_weight.flatten(0, 1), self.qkv_bias.flatten()))

    def split(self, qkv: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
        """Return the three parts of (batch, tokens, 3 heads head_dim)."""
        batch, tokens, _ = qkv.shape
        q, k, v = qkv.view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        return q, k, v

    def write(self, mixed: Tensor) -> Tensor:
        """Return (batch, tokens, rows) from the mixed heads."""
        batch, _, tokens, _ = mixed.shape
        written: Tensor = self.out(mixed.transpose(1, 2).reshape(batch, tokens, -1))
        return written


class FeedForward(nn.Module):
    """Two linear layers with a GELU between them: ``units`` hidden units, ``rows`` residual coordinates written."""

    def __init__(self, shape: TransformerShape, units: int, rows: int) -> None:
        super().__init__()
        self.up = nn.Linear(shape.dim, units)
        self.down = nn.Linear(units, rows)

    def forward(self, x: Tensor, gates: Optional[BlockGates] = None) -> Tensor:
        hidden = F.gelu(self.up(x))
        written: Tensor = self.down(hidden if gates is None else hidden * gates["hidden"])
        return written if gates is None else written * gates["ffn_rows"]


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


def add_rows(x: Tensor, branch: Tensor, rows: Optional[Tensor]) -> Tensor:
    """Add ``branch`` (batch, tokens, kept) to the residual stream at the coordinates ``rows``; None means all."""
    # index_add refuses mixed types, which autocast makes: a float32 stream and a bfloat16 branch
    return x + branch if rows is None else x.index_add(-1, rows, branch.to(x.dtype))


def _rows(rows: Sequence[int], dim: int) -> Optional[Tensor]:
    # from_numpy, not torch.tensor: the indices stay real when the module is built on the meta device
    return None if len(rows) == dim else torch.from_numpy(np.asarray(rows, dtype=np.int64))
