"""What a submodel costs to hold, to train and to send: exact counts from the plan's shapes alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Tuple

from cosp.models.vit import ViTShape, vit_layout
from cosp.submodel.layout import parameter_count
from cosp.submodel.plan import GroupSizes

FLOAT_BYTES = 4

OPTIMIZER_FLOATS = {"adamw": 2, "sgd": 1}
"""Floats of optimizer state for each parameter (SGD with momentum)."""

KERNELS_PER_BLOCK = 60
KERNELS_OUTSIDE_BLOCKS = 60
"""Kernels started by one training step, forward and backward; the flat optimizer step adds a handful."""


@dataclass(frozen=True)
class Footprint:
    """Costs of one submodel. FLOPs count a multiply-add as two, matrix products only, as is usual."""

    depth: int
    parameters: int
    forward_flops: int
    """FLOPs of the forward pass of one sample."""
    activation_bytes: int
    """Bytes kept for the backward pass of one sample."""
    kernels: int
    """Kernels started by one training step."""

    def step_flops(self, batch: int) -> int:
        """Return the FLOPs of one training step: the backward pass costs twice the forward pass."""
        return 3 * self.forward_flops * batch

    def training_bytes(self, batch: int, optimizer: str) -> int:
        """Return peak memory of local training: weights, received weights, gradients, optimizer state, activations."""
        return FLOAT_BYTES * self.parameters * (3 + OPTIMIZER_FLOATS[optimizer]) + batch * self.activation_bytes

    def step_bytes(self, batch: int, optimizer: str) -> float:
        """Return memory traffic of one step: weights read twice, optimizer pass, activations written and read."""
        passes = 2 + 1 + 2 * OPTIMIZER_FLOATS[optimizer]
        return FLOAT_BYTES * self.parameters * passes + 2.5 * batch * self.activation_bytes

    def scoring_bytes(self, batch: int) -> int:
        """Return peak memory of scoring units: weights without gradients, and activations."""
        return FLOAT_BYTES * self.parameters + batch * self.activation_bytes


@lru_cache(maxsize=4096)
def footprint(shape: ViTShape, counts: Tuple[GroupSizes, ...]) -> Footprint:
    """Return the costs of the submodel that keeps ``counts[b]`` units in block b."""
    depth = len(counts)
    exits = len(shape.exits_within(depth))
    macs = _embed_macs(shape) + sum(_block_macs(shape, kept) for kept in counts) + exits * _exit_macs(shape)
    floats = _embed_floats(shape) + sum(_block_floats(shape, kept) for kept in counts) + exits * _exit_floats(shape)
    return Footprint(
        depth=depth,
        parameters=parameter_count(vit_layout(shape), counts),
        forward_flops=2 * macs,
        activation_bytes=FLOAT_BYTES * floats,
        kernels=KERNELS_PER_BLOCK * depth + KERNELS_OUTSIDE_BLOCKS,
    )


def _embed_macs(shape: ViTShape) -> int:
    return (shape.tokens - 1) * shape.patch_entries * shape.dim


def _exit_macs(shape: ViTShape) -> int:
    return shape.dim * shape.classes


def _block_macs(shape: ViTShape, kept: GroupSizes) -> int:
    inner = kept.heads * shape.head_dim
    attention = shape.dim * 3 * inner + 2 * shape.tokens * inner + inner * kept.attention_rows
    ffn = kept.hidden * (shape.dim + kept.ffn_rows)
    return shape.tokens * (attention + ffn)


def _embed_floats(shape: ViTShape) -> int:
    """Floats saved outside blocks and exits: the cut patches, and the last residual stream if an exit reads from it."""
    read_in_place = shape.tokens * shape.dim if shape.pooling == "class" else 0
    return (shape.tokens - 1) * shape.patch_entries + read_in_place


def _exit_floats(shape: ViTShape) -> int:
    """Floats that autograd saves in one exit: the pooled tokens, the norm's statistics and output, the
    log-probabilities."""
    pooled = shape.dim if shape.pooling == "mean" else 0
    return pooled + 2 + shape.dim + shape.classes


def _block_floats(shape: ViTShape, kept: GroupSizes) -> int:
    """Floats that autograd saves in one block, with an attention kernel that never stores the attention matrix.

    Inputs, statistics and outputs of both norms; q, k, v, the mixed heads and one log-sum a head; the hidden units
    before and after the GELU; and branches that write fewer rows than there are, because index_add saves what it adds.
    """
    inner = kept.heads * shape.head_dim
    narrow = sum(rows for rows in (kept.attention_rows, kept.ffn_rows) if rows < shape.dim)
    return shape.tokens * (4 * shape.dim + 4 + 4 * inner + kept.heads + 2 * kept.hidden + narrow)
