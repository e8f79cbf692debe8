"""What a task of kind "moments" asks: each exit's features summed to second order, with the classes beside them.

A feature vector is what an exit's head reads, with a 1 behind it: d + 1 numbers z. A client sends, for each exit of the
submodel that it was given, the sums over its samples of z z^T (its upper triangle, row by row) and of z y^T, y being 1
at the sample's class: all that least squares ask of data, whose sums over clients are those of the data together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, List, Tuple

import torch

from cosp.submodel.footprint import Footprint, Step
from cosp.submodel.passes import FLOAT_BYTES
from cosp.submodel.shape import TransformerShape
from cosp.task.task import EVALUATION_BATCH

if TYPE_CHECKING:
    from torch import Tensor

Sums = Tuple["Tensor", "Tensor"]
"""An exit's sums of z z^T, (d + 1, d + 1), and of z y^T, (d + 1, classes)."""

SUM_BYTES = 8
"""Sums are float64 on the client, so that their order does not show; they travel as float32."""
KERNELS, EXIT_KERNELS = -9, -6
"""What a step and each exit in it start of kernels beside those of judging: predictions are not counted."""


def moments_length(shape: TransformerShape, depth: int) -> int:
    """Return how many numbers the client sends of a submodel of ``depth`` blocks."""
    read = shape.dim + 1
    return len(shape.exits_within(depth)) * (read * (read + 1) // 2 + read * shape.classes)


def moments_bytes(shape: TransformerShape, size: Footprint, batch: int) -> int:
    """Return peak memory of reading ``batch`` samples at a time: judging them, the sums, and what a sum is made of."""
    read = shape.dim + 1
    entries = read * (read + shape.classes)
    exits = len(shape.exits_within(size.depth))
    features = FLOAT_BYTES * batch * (exits * shape.dim + read + shape.classes)
    return size.evaluation_bytes(batch) + exits * SUM_BYTES * entries + 2 * SUM_BYTES * entries + features


def moments_batch(shape: TransformerShape, size: Footprint, limit_bytes: int) -> int:
    """Return how many samples can be read at a time within ``limit_bytes``; 0 if not even one can."""
    none, one = (moments_bytes(shape, size, batch) for batch in (0, 1))
    return max(0, min(EVALUATION_BATCH, (limit_bytes - none) // (one - none)))


def moments_step(shape: TransformerShape, size: Footprint, batch: int) -> Step:
    """Return what one step on ``batch`` samples asks: judging them (z y^T takes the head's place), and z z^T."""
    read, exits = shape.dim + 1, len(shape.exits_within(size.depth))
    entries = read * (read + shape.classes)
    moved = FLOAT_BYTES * (3 * batch * read + 2 * entries) + 2 * SUM_BYTES * entries
    return size.evaluation_step(batch) + Step(
        2 * batch * exits * read**2, exits * moved, KERNELS + EXIT_KERNELS * exits
    )


def to_vector(sums: List[Sums]) -> Tensor:
    """Return all sums end to end, float32: exit by exit, first z z^T."""
    parts = []
    for squares, classes in sums:
        row, column = torch.triu_indices(*squares.shape, device=squares.device)
        parts += [squares[row, column].float(), classes.flatten().float()]
    return torch.cat(parts)


def from_vector(vector: Tensor, shape: TransformerShape, depth: int) -> List[Sums]:
    """Undo :func:`to_vector`, float64; ``ValueError`` if its length is another or a sum is not finite."""
    wanted = moments_length(shape, depth)
    if vector.numel() != wanted or not bool(torch.isfinite(vector).all()):
        raise ValueError(f"moments must be {wanted} finite numbers, got {vector.numel()}")
    read = shape.dim + 1
    row, column = torch.triu_indices(read, read)
    found = []
    for part in vector.double().view(len(shape.exits_within(depth)), -1):
        squares = torch.zeros(read, read, dtype=torch.float64)
        squares[row, column] = part[: len(row)]
        squares[column, row] = part[: len(row)]
        found.append((squares, part[len(row) :].view(read, shape.classes)))
    return found
