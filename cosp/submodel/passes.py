"""What one pass over a submodel costs: FLOPs, memory traffic, kernels and the memory held at its widest moment.

Followed kernel by kernel through ``cosp/models`` as torch runs it eagerly; ``docs/cost.md`` compares each figure with
torch's own count. Letters: T tokens, D width of the residual stream, I the kept heads' dimensions together, H hidden
units, R rows that a branch writes. Attention is torch's fused kernel, which never stores the (T, T) matrix; it is what
runs on a GPU from torch 2.0 on and on a CPU from 2.1 on. What trunks of pretrained families do otherwise stands in
``trunks.py``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import List, Tuple

from cosp.submodel import again, gradients, halves, trunks
from cosp.submodel.adapters import READS_STREAM
from cosp.submodel.frozen import NOTHING, Frozen
from cosp.submodel.gradients import Block, Has, blocks_of, has_gradients, still
from cosp.submodel.plan import GroupSizes
from cosp.submodel.shape import TransformerShape

FLOAT_BYTES = 4
HALF_BYTES = 2

PRECISIONS = ("float32", "mixed")

Counts = Tuple[GroupSizes, ...]

FORWARD_CASTS = 8
"""Its casts in a mixed step: weights, biases and inputs of its products."""


@dataclass(frozen=True)
class Pass:
    """Costs of one pass: of every sample, and of every step whatever its batch."""

    flops: int
    """FLOPs of a sample."""
    traffic_bytes: int
    """Bytes of a sample's activations that kernels read and write."""
    held_bytes: int
    """Bytes that a sample adds to the step's widest moment."""
    workspace_bytes: int
    """Bytes that the step's widest moment holds whatever the batch, weights apart."""
    weight_visits: float
    """How often a step reads or writes each weight, in floats, optimizer and word table apart."""
    kernels: int
    table_visits: int = 0
    """The same for a table of words: what is looked up is traffic of the samples, its gradient is as large as it is."""
    step_bytes: int = 0
    """Bytes that a step moves besides, whatever its batch: of weights that it reads once more, and of their casts."""


def training(
    shape: TransformerShape,
    counts: Counts,
    precision: str = "float32",
    frozen: Frozen = NOTHING,
    checkpointing: bool = False,
) -> Pass:
    """Return the training pass. ``mixed`` is autocast: the residual stream stays float32, branches are halved.

    Blocks before the first that has a gradient go forward alone and keep nothing.

    A mixed pass also makes and holds a half copy of the weights, and casts what goes into branches and comes out of
    them, forward and backward; FLOPs stay the same.

    With ``checkpointing`` all blocks but the deepest are computed twice; see ``again.py``. What is frozen may be
    halves; see ``halves.py``.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {PRECISIONS}, got {precision!r}")
    mixed = precision == "mixed"
    whole, branch = blocks_of(shape, counts), _branch_bytes(precision)
    alone = still(shape, counts, frozen)
    idle, blocks = whole[:alone], whole[alone:]
    grads = _grads(shape, counts, frozen)
    twice = again.recomputed(blocks) if checkpointing else []
    exits, held = len(shape.exits_within(len(counts))), _outside_saved(shape, counts, frozen)
    freed = FLOAT_BYTES * trunks.freed_floats(shape)
    averages = _averages(shape, exits)
    widest = in_idle = max([held, *(_forward_widest(shape, block, branch) for block in idle)])
    for place, (block, has) in enumerate(zip(blocks, grads)):
        attention, ffn = _saved(shape, block, has, branch)
        t, d, i, h = block.tokens, block.dim, block.inner, block.hidden
        # autocast's halved gradient of all rows written; by then index_add has let go of those that it kept
        read = branch * block.rows[1] - FLOAT_BYTES * block.narrow[1] if mixed else branch * block.narrow[1]
        # the gradient of hidden units by way of W and by way of A; or that before the GELU, whose output is not held
        both = h if "down" in block.on or not has.weights else 0
        in_ffn = attention + ffn + t * (FLOAT_BYTES * d + branch * (h + both) + read)
        in_attention = attention + t * (FLOAT_BYTES * d + branch * (4 * i + block.narrow[0]))
        widest = max(widest, held + max(in_ffn, in_attention) - freed)
        held += _stream_bytes(shape) if place < len(twice) else attention + ffn
    widest = max(widest, held + (_stream_bytes(shape) if blocks else 0))
    largest = gradients.largest_gradient(shape, blocks, frozen)
    moved = _mixed_bytes if mixed else _float_bytes
    streams = 10 + 4 * (exits - 1) + 2 * averages + trunks.streams(shape, averages, trains=True)
    streams -= _still_streams(shape, counts, frozen)
    outside = shape.tokens * shape.dim * streams + _input_traffic(shape, reads=1 if frozen.stream else 3)
    held_halves = [max(map(again.matrices, blocks))] if twice else [*map(again.matrices, blocks)]
    casts = halves.training(shape, counts, frozen, blocks, grads, twice)
    cast_bytes = halves.held_bytes(*((idle, frozen, 0) if widest == in_idle else (blocks, frozen, alone)))
    return Pass(
        flops=2 * (_training_macs(shape, counts, frozen) + sum(again.macs(shape, block) for block in twice)),
        traffic_bytes=sum(moved(block) for block in blocks)
        + branch * sum(gradients.training_floats(block, has) for block, has in zip(blocks, grads))
        + FLOAT_BYTES * (sum(map(_forward_floats, idle)) + outside)
        + (_input_cast_bytes(shape) if mixed else 0)
        + halves.looked_up_bytes(shape, frozen)
        + sum(again.moved_bytes(shape, block, mixed=mixed, frozen=frozen) for block in twice),
        held_bytes=widest,
        workspace_bytes=FLOAT_BYTES * largest
        + cast_bytes
        + (HALF_BYTES * (sum(held_halves) + largest) if mixed else 0),
        weight_visits=4.5 if mixed else 3,  # a copy of half the size is made and, going backward, made whole again
        kernels=_training_kernels(shape, blocks, exits)
        + sum(gradients.training_kernels(block, has) for block, has in zip(blocks, grads))
        + sum(map(gradients.forward_kernels, idle))
        + trunks.training_kernels(shape, exits)
        + again.FORWARD_KERNELS * alone
        - _still_kernels(shape, counts, frozen)
        + (_casts(shape, blocks, exits) + FORWARD_CASTS * alone if mixed else 0)
        + sum(again.kernels(shape, block, frozen) for block in twice)
        + (sum(again.casts(shape, block) for block in twice) if mixed else 0)
        + casts.kernels,
        table_visits=0 if frozen.stream or frozen.words else 1,
        step_bytes=(2 if mixed else 1) * FLOAT_BYTES * sum(again.weights(shape, block) for block in twice)
        + casts.moved_bytes,
    )


def scoring(shape: TransformerShape, counts: Counts, frozen: Frozen = NOTHING) -> Pass:
    """Return importance learning's pass: frozen weights, and a factor on every unit of full-width blocks.

    Nothing before the first block's gates has a gradient, and of the exits only the deepest is asked.
    """
    blocks = blocks_of(shape, counts)
    exits = len(shape.exits_within(len(counts)))
    averages = _averages(shape, exits)
    held = FLOAT_BYTES * _held_entries(shape)
    widest, macs, traffic, kernels = held, _forward_macs(shape, counts), 0, 0
    for first, block in zip([True] + [False] * (len(blocks) - 1), blocks):
        t, d, i, h = block.tokens, block.dim, block.inner, block.hidden
        attention = t * (d + i) if first else t * (2 * d + 2 + 4 * i + block.heads)  # gated heads, gated rows
        ffn = t * (2 * d + 2 + 2 * h)
        widest = max(
            widest,
            held + FLOAT_BYTES * (attention + ffn + t * 3 * max(d, h)),
            held + FLOAT_BYTES * (attention + t * max(3 * d, d + 4 * i)),
        )
        held += FLOAT_BYTES * (attention + ffn)
        macs += t * (2 * d * h + i * d) + (0 if first else t * (3 * i * d + 4 * t * i))
        macs += gradients.scoring_macs(block, first=first) - gradients.forward_macs(block)
        kernels += gradients.scoring_kernels(block, first=first)
        traffic += gradients.scoring_floats(block, first=first)
        traffic += again.forward_traffic(block) + t * (25 * d + 7 * i + 13 * h) + (0 if first else t * (7 * d + 25 * i))
    widest = max(widest, held + _stream_bytes(shape))
    macs += _exit_macs(shape)
    averages_back = min(averages, 1)  # the deepest exit alone
    streams = 6 + averages + averages_back + trunks.streams(shape, averages)
    outside = streams * shape.tokens * shape.dim + _input_traffic(shape, reads=1)
    casts = halves.scoring(shape, counts, frozen, blocks)
    return Pass(
        flops=2 * macs,
        traffic_bytes=FLOAT_BYTES * (traffic + outside) + halves.looked_up_bytes(shape, frozen),
        held_bytes=widest,
        workspace_bytes=halves.held_bytes(blocks, frozen, 0),
        weight_visits=2,
        kernels=kernels
        + 46 * len(counts)
        + 2 * exits
        + averages
        + 7
        - shape.cut_in_place
        + trunks.scoring_kernels(shape, exits)
        + casts.kernels,
        step_bytes=casts.moved_bytes,
    )


def evaluation(shape: TransformerShape, counts: Counts, frozen: Frozen = NOTHING) -> Pass:
    """Return the forward pass without a graph."""
    blocks, exits = blocks_of(shape, counts), len(shape.exits_within(len(counts)))
    averages = _averages(shape, exits)
    t, d = shape.tokens, shape.dim
    widest = _held_entries(shape) + 3 * t * d
    for block in blocks:
        parts = 4 * block.inner + block.rows[0] + block.heads
        in_attention = t * (2 * d + max(parts, 6 * block.inner if block.split else 0))
        in_ffn = t * (3 * d + 2 * block.hidden)
        widest = max(widest, _entries(shape) + max(in_attention, in_ffn) - trunks.freed_floats(shape))
    outside = (5 + averages + trunks.streams(shape, averages)) * t * d + _input_traffic(shape, reads=1)
    casts, counted = halves.forward(shape, counts, frozen), 8 * (exits + 2) * shape.classes**2  # confusion counts
    return Pass(
        flops=2 * _forward_macs(shape, counts),
        traffic_bytes=FLOAT_BYTES * (sum(map(_forward_floats, blocks)) + outside)
        + halves.looked_up_bytes(shape, frozen),
        held_bytes=FLOAT_BYTES * widest,
        workspace_bytes=counted + halves.held_bytes(blocks, frozen, 0),
        weight_visits=1,
        kernels=10 * len(counts)
        + sum(map(gradients.forward_kernels, blocks))
        + 14 * exits
        + averages
        + 17
        - shape.cut_in_place
        + trunks.forward_kernels(shape, exits)
        + casts.kernels,
        step_bytes=casts.moved_bytes,
    )


def saved_bytes(
    shape: TransformerShape,
    counts: Counts,
    precision: str = "float32",
    frozen: Frozen = NOTHING,
    checkpointing: bool = False,
) -> int:
    """Return the bytes that autograd keeps of one sample between forward and backward."""
    branch, trained = _branch_bytes(precision), blocks_of(shape, counts)[still(shape, counts, frozen) :]
    grads = _grads(shape, counts, frozen)
    twice = len(again.recomputed(trained)) if checkpointing else 0
    once = zip(trained[twice:], grads[twice:])
    blocks = twice * _stream_bytes(shape) + sum(sum(_saved(shape, block, has, branch)) for block, has in once)
    inside = sum(position < still(shape, counts, frozen) for position in shape.exits_within(len(counts)))
    read_in_place = _stream_bytes(shape) * (inside + bool(trained)) if shape.pooling == "class" else 0
    samples = 0 if frozen.stream else _entries(shape)
    outside = _outside_saved(shape, counts, frozen) - FLOAT_BYTES * _held_entries(shape, frozen)
    return blocks + outside + read_in_place + FLOAT_BYTES * samples


def _plain(shape: TransformerShape, frozen: Frozen) -> bool:
    """Say whether what the first trained block's attention reads has no gradient, nor its norm: nothing is needed of
    what that norm read.
    """
    return frozen.stream and frozen.block_norms and shape.trunk.norm == "pre"


def _grads(shape: TransformerShape, counts: Counts, frozen: Frozen) -> List[Has]:
    """Return what has a gradient in each of the blocks behind those that go forward alone."""
    alone = still(shape, counts, frozen)
    return [
        has_gradients(shape, block, frozen, place=alone + i, first=frozen.stream and i == 0)
        for i, block in enumerate(blocks_of(shape, counts)[alone:])
    ]


def _forward_widest(shape: TransformerShape, block: Block, branch: int) -> int:
    """Bytes of a sample at the widest moment of a block that goes forward alone."""
    t, d = block.tokens, block.dim
    parts = max(4 * block.inner + block.rows[0], 6 * block.inner if block.split else 0)
    in_attention = t * (2 * FLOAT_BYTES * d + branch * parts)
    in_ffn = t * (3 * FLOAT_BYTES * d + branch * 2 * block.hidden)
    return FLOAT_BYTES * _entries(shape) + max(in_attention, in_ffn)


def _training_macs(shape: TransformerShape, counts: Counts, frozen: Frozen) -> int:
    """Multiply-adds of a sample: forward, towards weights that are trained, and towards what has a gradient."""
    alone, blocks = still(shape, counts, frozen), blocks_of(shape, counts)
    macs = (1 if frozen.stream else 2) * shape.input_macs  # nobody needs the images' gradient
    macs += sum(map(again.block_macs, blocks[:alone]))
    trained = blocks[alone:]
    macs += sum(gradients.training_macs(block, has) for block, has in zip(trained, _grads(shape, counts, frozen)))
    normed = shape.trunk.norm == "pre" and not frozen.norms
    for position in shape.exits_within(len(counts)):
        macs += 3 * _exit_macs(shape)
        if frozen.stream and position <= alone and not normed:
            macs -= trunks.pooler_macs(shape) or shape.dim * shape.classes
    return macs


def _still_streams(shape: TransformerShape, counts: Counts, frozen: Frozen) -> int:
    """How often less the kernels outside blocks, and the first trained block's norm and product, read or write a tensor
    as large as the residual stream: nothing goes back to the inputs, nor from exits inside the trunk.
    """
    if not frozen.stream:
        return 0
    alone, trunk = still(shape, counts, frozen), shape.trunk
    inside = sum(position <= alone for position in shape.exits_within(len(counts)))
    inputs = (5 if shape.table else 8) + (3 if trunk.embedding_norm else 0)
    exits = inside * (6 if shape.pooling == "mean" else 5)
    if alone == len(counts):
        return inputs + exits - 6
    return inputs + exits + (3 if trunk.norm == "post" else 0) + (6 if _plain(shape, frozen) else 0)


def _still_kernels(shape: TransformerShape, counts: Counts, frozen: Frozen) -> int:
    """Kernels that a step starts less: those towards what is frozen, and towards what nothing trained lies before."""
    alone, trunk = still(shape, counts, frozen), shape.trunk
    exits, pre = shape.exits_within(len(counts)), trunk.norm == "pre"
    kernels = 0
    if frozen.norms:  # gradients of weight and bias are added to the one vector no more
        kernels += 0 if frozen.trunk else 4 * (len(counts) - alone)
        kernels += 2 * len(exits) if pre else 0
        kernels += 2 if trunk.embedding_norm and not frozen.stream else 0
    if not frozen.stream:
        return kernels + (2 if frozen.words else 0)
    kernels += (6 if shape.table else 9) + (4 if trunk.embedding_norm else 0) - (0 if trunk.own_tokens else 3)
    normed = pre and not frozen.norms
    for position in exits:
        if position <= alone:  # its mean's, its sum with the stream's, its product's and its norm's way back
            kernels += 1 + (position < len(counts)) + (not normed) + (pre and frozen.norms)
    if alone == len(counts):
        return kernels
    return kernels + 1 + (not pre or frozen.block_norms) + _plain(shape, frozen)


def _branch_bytes(precision: str) -> int:
    return HALF_BYTES if precision == "mixed" else FLOAT_BYTES


def _forward_macs(shape: TransformerShape, counts: Counts) -> int:
    exits = len(shape.exits_within(len(counts)))
    return shape.input_macs + sum(map(again.block_macs, blocks_of(shape, counts))) + exits * _exit_macs(shape)


def _exit_macs(shape: TransformerShape) -> int:
    return shape.dim * shape.classes + trunks.pooler_macs(shape)


def _entries(shape: TransformerShape) -> int:
    """Entries of one sample, four bytes each: an image, whole or cut into patches, or the numbers of its words."""
    return math.prod(shape.sample_shape)


def _held_entries(shape: TransformerShape, frozen: Frozen = NOTHING) -> int:
    """Entries that the tokens are made of: an image stays beside its patches, where those are trained on."""
    once = shape.table or shape.cut_in_place or frozen.stream
    return _entries(shape) if once else 2 * _entries(shape)


def _input_traffic(shape: TransformerShape, reads: int) -> int:
    """Floats moved to make tokens of one sample: read and written to be cut, then read so often; a table's rows."""
    return ((0 if shape.cut_in_place else 2) + reads) * _entries(shape) + _looked_up(shape)


def _looked_up(shape: TransformerShape) -> int:
    """Floats of the table's rows that one sample reads."""
    return shape.input_tokens * shape.dim if shape.table else 0


def _averages(shape: TransformerShape, exits: int) -> int:
    """Return how many of ``exits`` average all tokens.

    That is a kernel that reads the residual stream, and going backward one that reads and writes a gradient of its
    size. A class token is read in place, and its gradient only written.
    """
    return exits if shape.pooling == "mean" else 0


def _saved(shape: TransformerShape, block: Block, has: Has, branch: int) -> Tuple[int, int]:
    """Return the bytes that autograd saves in attention and in feed-forward, norms included.

    Inputs, statistics and outputs of both norms; q, k, v, the mixed heads and one log-sum a head; the hidden units
    before and after the GELU; what narrow branches write; and what lies between an adapter's A and its B. Of these,
    what something trained reads, or something with a gradient was made by.
    """
    t, d, i, h, pre = block.tokens, block.dim, block.inner, block.hidden, shape.trunk.norm == "pre"
    reading = has.weights or any(name in block.on for name in READS_STREAM) or (has.held and not pre)
    writing, feeding, falling = (has.weights or name in block.on for name in ("output", "up", "down"))
    normed = (d + 2) * (has.read if pre else has.between)
    kept = d * reading + i * (3 * has.mixed + (has.mixed or writing))
    beside = block.heads * has.mixed + block.narrow[0] * (has.mixed or writing)
    thin = block.ranks * sum(name not in ("up", "down") for name in block.on)
    attention = FLOAT_BYTES * (normed + beside) + branch * (kept + thin)
    normed = (d + 2) * (has.fed or not pre)
    kept = d * feeding + h * (has.hidden + falling)
    thin = block.ranks * sum(name in ("up", "down") for name in block.on)
    ffn = FLOAT_BYTES * (normed + block.narrow[1] * (has.hidden or falling)) + branch * (kept + thin)
    return t * attention, t * ffn


def _outside_saved(shape: TransformerShape, counts: Counts, frozen: Frozen = NOTHING) -> int:
    """Bytes held outside blocks: the image, its patches, and each exit's statistics, output and log-probabilities.

    An exit that averages the tokens holds their mean too.
    """
    exits = len(shape.exits_within(len(counts)))
    pooled = _averages(shape, exits) * shape.dim
    floats = _held_entries(shape, frozen) + pooled + exits * (trunks.exit_floats(shape) + shape.classes)
    floats += 0 if frozen.stream else trunks.embedding_floats(shape)
    return FLOAT_BYTES * floats


def _stream_bytes(shape: TransformerShape) -> int:
    """Bytes of one sample's residual stream; the last one goes when the deepest exit's gradient takes its place.

    That gradient is as large, so a step's widest moment is the same where an exit does not keep the stream.
    """
    return FLOAT_BYTES * shape.tokens * shape.dim


def _forward_floats(block: Block) -> int:
    return again.forward_traffic(block) + gradients.forward_floats(block)


def _backward_traffic(block: Block) -> int:
    """Floats that they read and write going backward, towards inputs and weights."""
    rows = 3 * sum(block.rows) + 2 * sum(block.narrow)
    return block.tokens * (16 * block.dim + 31 * block.inner + 8 * block.hidden + rows)


def _float_bytes(block: Block) -> int:
    """Bytes that the kernels of one block read and write in a float32 training pass."""
    return FLOAT_BYTES * (again.forward_traffic(block) + _backward_traffic(block))


def _mixed_bytes(block: Block) -> int:
    """The same under autocast: stream and norms in float32, branches in half precision, and the casts between them.

    Per branch the norm's output is cast going forward, its gradient and the stream's going backward. A narrow branch is
    cast to float32 before it is added to its rows.
    """
    stream = 2 * block.dim * (FLOAT_BYTES * (4 + 6) + HALF_BYTES * 3 + 2 * (FLOAT_BYTES + HALF_BYTES))
    branch = HALF_BYTES * ((8 + 31) * block.inner + (4 + 8) * block.hidden + (2 + 3) * sum(block.rows))
    gradient = (FLOAT_BYTES + HALF_BYTES) * sum(block.rows)
    narrow = 4 * FLOAT_BYTES * sum(block.narrow)
    return block.tokens * (stream + branch + gradient + narrow)


def _input_cast_bytes(shape: TransformerShape) -> int:
    """Bytes that autocast adds where patches become tokens; words are looked up in float32."""
    return 0 if shape.table else 6 * shape.input_tokens * shape.dim + 2 * _entries(shape)


def _training_kernels(shape: TransformerShape, blocks: List[Block], exits: int) -> int:
    teaching = 22 if exits > 1 else 0
    outside = 28 + 32 * (exits - 1) + _averages(shape, exits) + teaching - (4 if shape.table else shape.cut_in_place)
    return 42 * len(blocks) + _narrow_branches(blocks) + outside


def _casts(shape: TransformerShape, blocks: List[Block], exits: int) -> int:
    """Casts of a mixed step: weights, biases and inputs of the products, their gradients, and logits."""
    usual = 22 * len(blocks) + _narrow_branches(blocks) + 8 * exits + (0 if shape.table else 7)
    return usual + trunks.casts(shape, len(blocks), exits)


def _narrow_branches(blocks: List[Block]) -> int:
    return sum(rows > 0 for block in blocks for rows in block.narrow)
