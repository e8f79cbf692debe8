"""What AdaViT's policies and Q-ViT's quantisers add to a training step of the plain model: measured, not followed.

Figures are means over two models and two batches of torch's own account on a CPU, per block. Judging a model with
policies or quantisers is priced as judging the plain one.
"""

from __future__ import annotations

from typing import NamedTuple

from cosp.submodel.footprint import Footprint, Step
from cosp.submodel.passes import FLOAT_BYTES
from cosp.submodel.shape import TransformerShape


class Added(NamedTuple):
    """Per block: kernels; visits to and floats held of each entry of the activations and weights that it works on."""

    kernels: int
    activation_visits: float
    activation_floats: float
    weight_visits: float
    weight_floats: float


ADDED = {
    "plain": Added(0, 0, 0, 0, 0),
    "adaptive": Added(94, 55, 6, 0, 0),
    "quantised": Added(595, 76, 4.5, 72, 4),
}


def variant_step(shape: TransformerShape, size: Footprint, batch: int) -> Step:
    """Return what the variant adds to one training step of ``size``."""
    added = ADDED[shape.variant]
    floats = added.activation_visits * batch * _activations(shape, size) + added.weight_visits * size.parameters
    return Step(_policy_flops(shape, size, batch), FLOAT_BYTES * floats, added.kernels * size.depth)


def variant_bytes(shape: TransformerShape, size: Footprint, batch: int) -> int:
    """Return what the variant adds to the peak memory of training."""
    added = ADDED[shape.variant]
    floats = added.activation_floats * batch * _activations(shape, size) + added.weight_floats * size.parameters
    return round(FLOAT_BYTES * floats)


def _activations(shape: TransformerShape, size: Footprint) -> int:
    """Floats of a sample that are masked (the residual stream) or rounded (the inputs of all products)."""
    width = {"plain": 0, "adaptive": shape.dim, "quantised": 3 * shape.dim + shape.hidden}[shape.variant]
    return shape.tokens * width * size.depth


def _policy_flops(shape: TransformerShape, size: Footprint, batch: int) -> int:
    """FLOPs of the policies' products, forward and backward."""
    decisions = shape.heads + 2 + shape.tokens - 1 if shape.variant == "adaptive" else 0
    return 3 * 2 * batch * shape.dim * decisions * size.depth
