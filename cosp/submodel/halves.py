"""What it costs that frozen weights are held as halves: each is cast to float32 where it is used, and those that a
gradient passes once more on its way back. A cast is a kernel that reads two bytes an entry and writes four.

Positions are added as they are; of a table of words what is looked up is cast. Letters are those of ``passes.py``.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Sequence, Tuple

from cosp.submodel.again import ends_with_product
from cosp.submodel.frozen import Frozen
from cosp.submodel.gradients import Block, Has
from cosp.submodel.plan import GroupSizes
from cosp.submodel.shape import TransformerShape, layout_of

CAST_BYTES = 6
UNCAST = "positions"


class Casts(NamedTuple):
    """Casts of a step: kernels, and bytes whatever the batch."""

    kernels: int = 0
    moved_bytes: int = 0

    def __add__(self, other: Casts) -> Casts:  # type: ignore[override]
        return Casts(self.kernels + other.kernels, self.moved_bytes + other.moved_bytes)


NONE = Casts()


def forward(shape: TransformerShape, counts: Sequence[GroupSizes], frozen: Frozen) -> Casts:
    """Return the casts of a forward pass: each frozen tensor once."""
    if not frozen.halves:
        return NONE
    held = {name: entry for name, entry in layout_of(shape).items() if entry.held(len(counts)) and name != UNCAST}
    left = [entry for entry in held.values() if frozen.holds(entry)]
    entries = sum(math.prod(entry.sliced_shape(counts)) for entry in left if "words" not in entry.groups)
    return Casts(len(left), CAST_BYTES * entries)


def looked_up_bytes(shape: TransformerShape, frozen: Frozen) -> int:
    """Return the bytes that a sample moves more: the rows of its words are read and written as halves, then cast."""
    cast = frozen.halves and (frozen.words or frozen.stream) and shape.table
    return 2 * shape.input_tokens * shape.dim if cast else 0


def training(
    shape: TransformerShape,
    counts: Sequence[GroupSizes],
    frozen: Frozen,
    blocks: Sequence[Block],
    grads: Sequence[Has],
    twice: Sequence[Block],
) -> Casts:
    """Return the casts of training: forward, back through ``blocks``, and forward again through some of them."""
    casts = forward(shape, counts, frozen)
    if not frozen.halves:
        return casts
    for block, has in zip(blocks, grads):
        casts += NONE if has.weights else _backward(block, has)
    for block in twice:
        casts += _again(shape, frozen, block)
    return casts


def scoring(shape: TransformerShape, counts: Sequence[GroupSizes], frozen: Frozen, blocks: Sequence[Block]) -> Casts:
    """Return those of importance learning, whose first gates stand behind the first block's queries."""
    casts = forward(shape, counts, frozen)
    for place, block in enumerate(blocks):
        casts += _cast(matrices(block)[not place :]) if _holds_matrices(frozen, place) else NONE
    return casts


def _backward(block: Block, has: Has) -> Casts:
    """Return the casts of a block's matrices on a gradient's way back through it."""
    passed = (has.read, has.mixed, has.fed, has.hidden)
    return _cast([entries for entries, passes in zip(matrices(block), passed) if passes])


def _again(shape: TransformerShape, frozen: Frozen, block: Block) -> Casts:
    """Return the casts of a block that is computed once more; see ``again.py``, which says what is not."""
    if not frozen.block_norms:
        return NONE
    casts = _cast([block.dim] * 4)
    if frozen.trunk:
        biases = (3 * block.inner, block.rows[0], block.hidden, block.rows[1])
        needed = 3 if ends_with_product(shape, block) else 4
        casts += _cast(matrices(block)[:needed] + biases[:needed])
    return casts


def held_bytes(blocks: Sequence[Block], frozen: Frozen, first: int) -> int:
    """Return what the largest matrix takes that is cast in ``blocks``, the ``first`` of which stands at that place."""
    cast = [max(matrices(block)) for i, block in enumerate(blocks) if _holds_matrices(frozen, first + i)]
    return 4 * max(cast, default=0)


def matrices(block: Block) -> Tuple[int, ...]:
    """Return the entries of a block's four matrices: queries, keys and values; output; up; down."""
    d, i, h = block.dim, block.inner, block.hidden
    return 3 * i * d, i * block.rows[0], h * d, h * block.rows[1]


def _holds_matrices(frozen: Frozen, place: int) -> bool:
    return frozen.halves and (frozen.trunk or place < frozen.blocks)


def _cast(entries: Sequence[int]) -> Casts:
    return Casts(len(entries), CAST_BYTES * sum(entries))
