"""What trunks of pretrained families cost beside fresh ones: post-norm, a norm behind the embedding, padding, poolers.

Terms that ``passes.py`` adds to its own; all are zero for a fresh model without padding. A mask is made once a step and
is small: what attention reads of it is not counted.
"""

from __future__ import annotations

from cosp.submodel.shape import TransformerShape


def pooler_macs(shape: TransformerShape) -> int:
    """Multiply-adds of one exit's pooler, a sample."""
    return 0 if shape.trunk.pooler == "none" else shape.dim**2


def exit_floats(shape: TransformerShape) -> int:
    """Floats of a sample that autograd saves between what an exit reads and its head: of the norm and of the pooler."""
    trunk = shape.trunk
    return (2 + shape.dim if trunk.norm == "pre" else 0) + (0 if trunk.pooler == "none" else shape.dim)


def embedding_floats(shape: TransformerShape) -> int:
    """Floats of a sample that the norm behind the embedding saves, its output apart, which the first block reads."""
    return shape.tokens * (shape.dim + 2) if shape.trunk.embedding_norm else 0


def freed_floats(shape: TransformerShape) -> int:
    """Floats of a sample that are gone at a branch's widest moment: a post-norm block holds its input once, normed."""
    return shape.tokens * shape.dim if shape.trunk.norm == "post" else 0


def streams(shape: TransformerShape, averages: int, *, trains: bool = False) -> int:
    """How often more the kernels outside blocks read or write a tensor as large as the residual stream.

    Two for each of the exits' ``averages`` that leaves out padding: a product before the sum. Nothing is joined where
    the model has no token of its own.
    """
    padded = 2 * averages if shape.padding is not None else 0
    joined = 0 if shape.trunk.own_tokens else -2
    return padded + joined + ((5 if trains else 2) if shape.trunk.embedding_norm else 0)


def forward_kernels(shape: TransformerShape, exits: int) -> int:
    """Kernels that a forward pass starts more, fewer if below zero."""
    trunk = shape.trunk
    post, pooled = int(trunk.norm == "post"), int(trunk.pooler != "none")
    own = 0 if trunk.own_tokens else -1
    return _mask_kernels(shape, exits) + own + int(trunk.embedding_norm) + exits * (2 * pooled - post)


def scoring_kernels(shape: TransformerShape, exits: int) -> int:
    """The same of importance learning, which goes back through the deepest exit alone."""
    return forward_kernels(shape, exits) + (0 if shape.trunk.pooler == "none" else 2)


def training_kernels(shape: TransformerShape, exits: int) -> int:
    """The same of a training step: each parameter's gradient is added to the one vector, too."""
    trunk = shape.trunk
    post, pooled = int(trunk.norm == "post"), int(trunk.pooler != "none")
    own = 0 if trunk.own_tokens else -3
    return _mask_kernels(shape, exits) + own + 4 * int(trunk.embedding_norm) + exits * (8 * pooled - 4 * post)


def casts(shape: TransformerShape, depth: int, exits: int) -> int:
    """Casts of a mixed step: each block's of the mask, and those of poolers."""
    return (0 if shape.padding is None else depth) + (0 if shape.trunk.pooler == "none" else 4 * exits)


def _mask_kernels(shape: TransformerShape, exits: int) -> int:
    """Kernels that find the padding and keep it out of attention, and out of the exits' means."""
    if shape.padding is None:
        return 0
    return 5 + (3 + exits if shape.pooling == "mean" else 0)
