"""What it costs that blocks are computed once more in the backward pass (gradient checkpointing).

All but the deepest, whose gradient is the first, keep what they read and nothing else; when the gradient comes to one,
what it asks for is computed again, and no more than that: after the last product it needs nothing where that is added
to whole rows. Letters are those of ``passes.py``.
"""

from __future__ import annotations

from typing import List, Tuple

from cosp.submodel import gradients
from cosp.submodel.frozen import NOTHING, Frozen
from cosp.submodel.gradients import Block
from cosp.submodel.shape import TransformerShape

FLOAT_BYTES = 4
HALF_BYTES = 2

FORWARD_KERNELS = 10
"""Kernels of a block that goes forward alone."""


def recomputed(blocks: List[Block]) -> List[Block]:
    """Return those of the blocks with a gradient that are computed twice."""
    return blocks[:-1]


def macs(shape: TransformerShape, block: Block) -> int:
    """Multiply-adds of a sample."""
    return block_macs(block) - _last(shape, block)[0]


def moved_bytes(shape: TransformerShape, block: Block, *, mixed: bool, frozen: Frozen = NOTHING) -> int:
    """Bytes of a sample that kernels read and write; where branches are halves, the stream and its norms are not."""
    stream, halves = _last(shape, block)[1]
    halves += 2 * block.tokens * block.hidden * _ends_before_gelu(shape, block, frozen)
    if not mixed:
        return FLOAT_BYTES * (forward_traffic(block) + gradients.forward_floats(block) - stream - halves)
    t, d = block.tokens, block.dim
    whole = t * (8 * d + 3 * d + 2 * sum(block.narrow)) - stream  # norms and sums; half of each cast
    branch = forward_traffic(block) + gradients.forward_floats(block) - t * 7 * d - halves
    return FLOAT_BYTES * whole + HALF_BYTES * branch


def kernels(shape: TransformerShape, block: Block, frozen: Frozen = NOTHING) -> int:
    last = _last(shape, block)[2] + _ends_before_gelu(shape, block, frozen)
    return FORWARD_KERNELS + gradients.forward_kernels(block) - last


def casts(shape: TransformerShape, block: Block) -> int:
    """Casts of a mixed step: weights, biases, inputs of both branches, narrow rows and the mask."""
    return 10 + sum(rows > 0 for rows in block.narrow) + (shape.padding is not None)


def weights(shape: TransformerShape, block: Block) -> int:
    """Weights that are read once more."""
    thin = block.ranks * sum(map(sum, block.thin.values()))
    return matrices(block) + thin - _last(shape, block)[3]


def block_macs(block: Block) -> int:
    """Multiply-adds of a sample going forward."""
    t, d, i, h = block.tokens, block.dim, block.inner, block.hidden
    attention = 3 * i * d + 2 * t * i + i * block.rows[0]
    return t * (attention + h * (d + block.rows[1])) + gradients.forward_macs(block)


def forward_traffic(block: Block) -> int:
    """Floats that the kernels of one block read and write going forward."""
    return block.tokens * (10 * block.dim + 8 * block.inner + 4 * block.hidden + 2 * sum(block.rows))


def matrices(block: Block) -> int:
    """Weights of a block's matrices, adapters apart."""
    return block.dim * (3 * block.inner + block.hidden) + block.inner * block.rows[0] + block.hidden * block.rows[1]


def ends_with_product(shape: TransformerShape, block: Block) -> bool:
    """Say whether the last steps, which nothing needs again, are the product with W and the sum with the stream."""
    return shape.trunk.norm == "pre" and not block.narrow[1] and "down" not in block.on


def _ends_before_gelu(shape: TransformerShape, block: Block, frozen: Frozen) -> bool:
    """Say whether the GELU before that product is one of those steps: frozen halves are not saved by the block."""
    return frozen.halves and frozen.trunk and ends_with_product(shape, block)


def _last(shape: TransformerShape, block: Block) -> Tuple[int, Tuple[int, int], int, int]:
    """Return the multiply-adds, floats (of the stream, and of the branch), kernels and weights of a block's last steps,
    which nothing needs again: narrow rows' way to the stream, or the sum with the stream and the product before. A norm
    behind that needs them all.
    """
    t, d, h, rows = block.tokens, block.dim, block.hidden, block.rows[1]
    if shape.trunk.norm == "post":
        return 0, (0, 0), 0, 0
    if block.narrow[1]:
        return 0, (t * (2 * d + rows), 0), 1, 0
    if "down" in block.on:
        return t * block.ranks * rows, (2 * t * d, t * (block.ranks + 3 * rows)), 2, block.ranks * rows
    return t * h * rows, (2 * t * d, t * (h + 2 * rows)), 2, h * rows
