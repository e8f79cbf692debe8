"""Which tensors of a block have a gradient in a training step, and what adapters and a frozen trunk make of its costs.

A product with frozen weights passes the gradient on towards its input, if anything before it is trained, and needs
none towards its weights, so its input is not kept for it. An adapter's A reads the same input: that is kept for A.
Letters are those of ``passes.py``; r is the number of ranks.
"""

from __future__ import annotations

from typing import Dict, FrozenSet, List, NamedTuple, Tuple

from cosp.submodel.adapters import READS_STREAM
from cosp.submodel.frozen import Frozen
from cosp.submodel.plan import GroupSizes
from cosp.submodel.shape import TransformerShape


class Block(NamedTuple):
    """Sizes of one block, a sample: T, D, I, H, ``rows`` written by attention and by the feed-forward, r."""

    tokens: int
    dim: int
    inner: int
    hidden: int
    rows: Tuple[int, int]
    heads: int
    ranks: int = 0
    on: FrozenSet[str] = frozenset()

    @property
    def narrow(self) -> Tuple[int, int]:
        """Rows of the branches that write fewer than there are: index_add keeps and copies them."""
        attention, ffn = (rows if rows < self.dim else 0 for rows in self.rows)
        return attention, ffn

    @property
    def thin(self) -> Dict[str, Tuple[int, int]]:
        """How much each adapted projection reads and writes of a token."""
        sizes = {
            **dict.fromkeys(READS_STREAM, (self.dim, self.inner)),
            "output": (self.inner, self.rows[0]),
            "up": (self.dim, self.hidden),
            "down": (self.hidden, self.rows[1]),
        }
        return {name: size for name, size in sizes.items() if name in self.on}

    @property
    def split(self) -> int:
        """How many of queries, keys and values are copied, so that each is a tensor of its own beside adapted ones."""
        adapted = sum(name in self.on for name in READS_STREAM)
        return 3 - adapted if adapted else 0


def blocks_of(shape: TransformerShape, counts: Tuple[GroupSizes, ...]) -> List[Block]:
    names = frozenset(() if shape.adapters is None else shape.adapters.projections)
    return [
        Block(
            tokens=shape.tokens,
            dim=shape.dim,
            inner=kept.heads * shape.head_dim,
            hidden=kept.hidden,
            rows=(kept.attention_rows, kept.ffn_rows),
            heads=kept.heads,
            ranks=kept.ranks,
            on=names if kept.ranks else frozenset(),
        )
        for kept in counts
    ]


class Has(NamedTuple):
    """Which of a block's tensors have a gradient: its input; what attention reads; queries, keys, values; the stream
    between the branches; what the feed-forward reads; hidden units. And whether its own weights have, and whether an
    exit that reads the first token in place holds the input until the backward pass.
    """

    stream: bool
    read: bool
    query: bool
    key: bool
    value: bool
    between: bool
    fed: bool
    hidden: bool
    weights: bool
    held: bool

    @property
    def mixed(self) -> bool:
        return self.query or self.key or self.value


def has_gradients(shape: TransformerShape, block: Block, frozen: Frozen, *, place: int, first: bool) -> Has:
    """Return what has a gradient in the block at ``place``, which trains something or stands behind one that does;
    before the ``first`` of them nothing has.
    """
    stream, weights = not first, not frozen.trunk
    held = place in shape.exits and shape.pooling == "class"
    normed = shape.trunk.norm == "pre" and not frozen.block_norms
    read = stream or normed
    query, key, value = (read or weights or name in block.on for name in READS_STREAM)
    between = stream or weights or query or key or value or "output" in block.on
    fed = between or normed
    return Has(stream, read, query, key, value, between, fed, fed or weights or "up" in block.on, weights, held)


def still(shape: TransformerShape, counts: Tuple[GroupSizes, ...], frozen: Frozen) -> int:
    """Return how many blocks go forward alone: those before the first that trains something."""
    if not frozen.stream:
        return 0
    frozen_blocks = min(frozen.blocks, len(counts))
    if not frozen.trunk:
        return frozen_blocks
    adapted = (i for i, kept in enumerate(counts) if i >= frozen_blocks and kept.ranks)
    return next(adapted, len(counts))


def forward_macs(block: Block) -> int:
    """Multiply-adds of the adapters of one block going forward."""
    return block.tokens * block.ranks * sum(read + written for read, written in block.thin.values())


def training_macs(block: Block, has: Has) -> int:
    """Multiply-adds of one block, forward and backward, its adapters' too."""
    t, d, i, h = block.tokens, block.dim, block.inner, block.hidden
    attention, ffn = block.rows
    products = 3 * i * d + i * attention + h * d + h * ffn
    macs = products + 2 * t * i + (products if has.weights else 0)
    macs += 3 * i * d * has.read + i * attention * has.mixed + h * d * has.fed + h * ffn * has.hidden
    macs += t * i * ((has.query or has.key) + has.value + has.query + has.key)
    before = _before(has)
    for name, (read, written) in block.thin.items():
        macs += block.ranks * (2 * (read + written) + written + read * before[name])
    return t * macs


def scoring_macs(block: Block, *, first: bool) -> int:
    """Multiply-adds of a block's adapters in importance learning, which asks gradients of gates alone."""
    read = {name: size for name, size in block.thin.items() if not (first and name in READS_STREAM)}
    return forward_macs(block) + block.tokens * block.ranks * sum(map(sum, read.values()))


def forward_floats(block: Block) -> int:
    """Floats of a sample that adapters' kernels read and write going forward."""
    thin = sum(read + 2 * block.ranks + 2 * written for read, written in block.thin.values())
    return block.tokens * (thin + 2 * block.inner * block.split)


def forward_kernels(block: Block) -> int:
    """Two products an adapter, and a copy of each of queries, keys and values that has none beside those that have."""
    return 2 * len(block.thin) + block.split


def training_floats(block: Block, has: Has) -> int:
    """Floats of a sample that a step's kernels read and write more than those of a block that trains its own weights:
    those of adapters, less those towards frozen weights. Below zero where that is more.
    """
    moved = forward_floats(block)
    before = _before(has)
    for name, (read, written) in block.thin.items():
        moved += block.tokens * (2 * written + 4 * block.ranks + read + 4 * read * before[name])
    if not has.weights:
        moved -= block.tokens * (2 * block.dim + 7 * block.inner + 3 * block.hidden + 2 * sum(block.rows))
        if not has.read:  # nor a gradient of the product that queries, keys and values are parts of
            moved -= block.tokens * 9 * block.inner
    return moved


def training_kernels(block: Block, has: Has) -> int:
    """Kernels that a step starts more, fewer if below zero."""
    kernels = forward_kernels(block)
    kernels += sum(7 if has_gradient else 5 for name, has_gradient in _before(has).items() if name in block.on)
    if not has.weights:
        kernels -= 20 + (not has.read)
    return kernels


def scoring_floats(block: Block, *, first: bool) -> int:
    """Floats of a sample that adapters' kernels read and write in importance learning."""
    back = [size for name, size in block.thin.items() if not (first and name in READS_STREAM)]
    return forward_floats(block) + block.tokens * sum(written + 2 * block.ranks + 4 * read for read, written in back)


def scoring_kernels(block: Block, *, first: bool) -> int:
    """The kernels that they are: two products and a sum more going backward."""
    return forward_kernels(block) + 3 * sum(not (first and name in READS_STREAM) for name in block.on)


def largest_gradient(shape: TransformerShape, blocks: List[Block], frozen: Frozen) -> int:
    """Return the entries of the largest tensor of a gradient towards weights of blocks, or of a head without any."""
    head = shape.dim * shape.classes
    if frozen.trunk:
        thin = [block.ranks * max(size) for block in blocks for size in block.thin.values()]
        return max([head, *thin])
    return max((max(block.dim * block.hidden, 3 * block.inner * block.dim) for block in blocks), default=head)


def _before(has: Has) -> Dict[str, bool]:
    """Say of each projection whether what it reads has a gradient."""
    return {**dict.fromkeys(READS_STREAM, has.read), "output": has.mixed, "up": has.fed, "down": has.hidden}
