"""One block of attention and feed-forward (Vaswani et al. 2017, arXiv:1706.03762), whole or narrow."""

from __future__ import annotations

from typing import Callable, Dict, Optional, Sequence, Tuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cosp.models.halves import LayerNorm, Linear, linear, whole
from cosp.submodel.adapters import READS_STREAM
from cosp.submodel.plan import BlockPlan
from cosp.submodel.shape import TransformerShape

Branch = Callable[[Tensor], Tensor]
"""(batch, tokens, dim) -> (batch, tokens, rows)."""

BlockGates = Dict[str, Tensor]
"""Group name -> a factor for each unit of that group in one full-width block; 0 removes the unit."""


class Block(nn.Module):
    """Two branches, attention and feed-forward, each added to the stream where its rows are kept.

    Pre-norm x + branch(norm(x)), post-norm norm(x + branch(x)). ``attended``, (batch, 1, 1, tokens), is added to what
    every query makes of each token: zero, or minus infinity where there is none.
    """

    attention_rows: Optional[Tensor]
    ffn_rows: Optional[Tensor]

    def __init__(self, shape: TransformerShape, plan: BlockPlan) -> None:
        super().__init__()
        self.post_norm = shape.trunk.norm == "post"
        self.norm1 = LayerNorm(shape.dim, eps=shape.trunk.epsilon)
        self.attention = Attention(shape, heads=len(plan.heads), rows=len(plan.attention_rows), ranks=len(plan.ranks))
        self.norm2 = LayerNorm(shape.dim, eps=shape.trunk.epsilon)
        self.ffn = FeedForward(shape, units=len(plan.hidden), rows=len(plan.ffn_rows), ranks=len(plan.ranks))
        self.dim = shape.dim
        self.add_rows = add_rows
        self.register_buffer("attention_rows", _rows(plan.attention_rows, shape.dim), persistent=False)
        self.register_buffer("ffn_rows", _rows(plan.ffn_rows, shape.dim), persistent=False)

    def place(self, plan: BlockPlan, device: torch.device) -> None:
        """Write from now on to the rows of ``plan``, which keeps as many units as the one it was built for."""
        for name, rows in (("attention_rows", plan.attention_rows), ("ffn_rows", plan.ffn_rows)):
            index = _rows(rows, self.dim)
            self._buffers[name] = None if index is None else index.to(device)

    def forward(self, x: Tensor, gates: Optional[BlockGates] = None, attended: Optional[Tensor] = None) -> Tensor:
        x = self.add(x, lambda y: self.attention(y, gates, attended), self.norm1, self.attention_rows)
        return self.add(x, lambda y: self.ffn(y, gates), self.norm2, self.ffn_rows)

    def add(self, x: Tensor, branch: Branch, norm: nn.Module, rows: Optional[Tensor]) -> Tensor:
        """Return the stream ``x`` with ``branch`` added at ``rows``, normalised before or after."""
        if self.post_norm:
            normed: Tensor = norm(self.add_rows(x, branch(x), rows))
            return normed
        return self.add_rows(x, branch(norm(x)), rows)


class Attention(nn.Module):
    """Multi-head self-attention with ``heads`` of the model's heads, writing ``rows`` residual coordinates."""

    def __init__(self, shape: TransformerShape, heads: int, rows: int, ranks: int = 0) -> None:
        super().__init__()
        self.heads = heads
        inner = heads * shape.head_dim
        self.qkv_weight = nn.Parameter(torch.empty(3, inner, shape.dim))
        self.qkv_bias = nn.Parameter(torch.empty(3, inner))
        self.out = Linear(inner, rows)
        self.adapters = adapters_of(
            shape, ranks, {**dict.fromkeys(READS_STREAM, (shape.dim, inner)), "output": (inner, rows)}
        )
        self.adapted = frozenset(self.adapters if ranks else ())
        self.reads_apart = any(name in self.adapted for name in READS_STREAM)
        self.attend: Callable[..., Tensor] = F.scaled_dot_product_attention

    def forward(self, x: Tensor, gates: Optional[BlockGates] = None, attended: Optional[Tensor] = None) -> Tensor:
        q, k, v = self.project(x)
        mixed = self.attend(q, k, v, attn_mask=attended)  # scale head_dim ** -0.5
        if gates is None:
            return self.write(mixed)
        return self.write(mixed * gates["heads"].view(-1, 1, 1)) * gates["attention_rows"]

    def project(self, x: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values, (batch, heads, tokens, head_dim) each."""
        qkv = linear(x, self.qkv_weight.flatten(0, 1), self.qkv_bias.flatten())
        return self.split_adapted(x, qkv) if self.reads_apart else self.split(qkv)

    def split_adapted(self, x: Tensor, qkv: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
        """Return the three parts, each a tensor of its own: one that stayed a view would hold all of ``qkv`` beside
        the adapted ones until the backward pass.
        """
        batch, tokens, _ = qkv.shape
        parts = zip(READS_STREAM, qkv.view(batch * tokens, 3, -1).unbind(1))
        q, k, v = (
            (self.adapters[name](x, part) if name in self.adapted else part.clone())
            .view(batch, tokens, self.heads, -1)
            .transpose(1, 2)
            for name, part in parts
        )
        return q, k, v

    def split(self, qkv: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
        """Return the three parts of (batch, tokens, 3 heads head_dim)."""
        batch, tokens, _ = qkv.shape
        q, k, v = qkv.view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        return q, k, v

    def write(self, mixed: Tensor) -> Tensor:
        """Return (batch, tokens, rows) from the mixed heads."""
        batch, _, tokens, _ = mixed.shape
        read = mixed.transpose(1, 2).reshape(batch, tokens, -1)
        written: Tensor = self.out(read)
        return self.adapters["output"](read, written) if "output" in self.adapted else written


class FeedForward(nn.Module):
    """Two linear layers with a GELU between them: ``units`` hidden units, ``rows`` residual coordinates written."""

    def __init__(self, shape: TransformerShape, units: int, rows: int, ranks: int = 0) -> None:
        super().__init__()
        self.up = Linear(shape.dim, units)
        self.down = Linear(units, rows)
        self.adapters = adapters_of(shape, ranks, {"up": (shape.dim, units), "down": (units, rows)})
        self.adapted = frozenset(self.adapters if ranks else ())
        self.approximate = "tanh" if shape.trunk.gelu == "tanh" else "none"

    def forward(self, x: Tensor, gates: Optional[BlockGates] = None) -> Tensor:
        hidden = F.gelu(self.product("up", self.up, x), approximate=self.approximate)
        written = self.product("down", self.down, hidden if gates is None else hidden * gates["hidden"])
        return written if gates is None else written * gates["ffn_rows"]

    def product(self, name: str, layer: nn.Module, x: Tensor) -> Tensor:
        """Return what ``layer`` makes of ``x``, with the adapter of that name if there is one."""
        written: Tensor = layer(x)
        return self.adapters[name](x, written) if name in self.adapted else written


class Adapter(nn.Module):
    """Two thin matrices beside a projection of ``entries`` to ``rows``; see :mod:`cosp.submodel.adapters`."""

    def __init__(self, ranks: int, entries: int, rows: int) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.empty(ranks, entries))
        self.b = nn.Parameter(torch.empty(rows, ranks))

    def forward(self, x: Tensor, written: Tensor) -> Tensor:
        """Return ``written`` (..., rows) + B (A x) for ``x`` (..., entries), as a new tensor."""
        thin = F.linear(x.flatten(0, -2), whole(self.a))
        return torch.addmm(written.flatten(0, -2), thin, whole(self.b).t()).view(written.shape)


def adapters_of(shape: TransformerShape, ranks: int, sizes: Dict[str, Tuple[int, int]]) -> nn.ModuleDict:
    """Return the adapters of those of the projections in ``sizes`` that have one."""
    names = () if shape.adapters is None else shape.adapters.projections
    return nn.ModuleDict({name: Adapter(ranks, *sizes[name]) for name in names if name in sizes})


def add_rows(x: Tensor, branch: Tensor, rows: Optional[Tensor]) -> Tensor:
    """Add ``branch`` (batch, tokens, kept) to the residual stream at the coordinates ``rows``; None means all."""
    # index_add refuses mixed types, which autocast makes: a float32 stream and a bfloat16 branch
    return x + branch if rows is None else x.index_add(-1, rows, branch.to(x.dtype))


def _rows(rows: Sequence[int], dim: int) -> Optional[Tensor]:
    # from_numpy, not torch.tensor: the indices stay real when the module is built on the meta device
    return None if len(rows) == dim else torch.from_numpy(np.asarray(rows, dtype=np.int64))
