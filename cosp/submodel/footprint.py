"""What a submodel costs to hold, to train, to score and to judge: exact counts from the plan's shapes alone.

Three passes: *training* (forward and backward), *scoring* (importance learning: forward, and backward to the gates
alone) and *evaluation* (forward, no graph). What a pass costs a sample stands in ``passes.py``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Tuple

from cosp.submodel import gradients, passes
from cosp.submodel.frozen import NOTHING, Frozen
from cosp.submodel.layout import parameter_count
from cosp.submodel.passes import FLOAT_BYTES, Pass
from cosp.submodel.plan import GroupSizes
from cosp.submodel.shape import TransformerShape, layout_of

OPTIMIZER_FLOATS = {"adamw": 2, "sgd": 1}
"""Floats of optimizer state for each parameter (SGD with momentum)."""

OPTIMIZER_TEMPORARIES = {"adamw": 2, "sgd": 1}
"""Floats for each parameter that an optimizer step holds for a moment, when the activations are gone."""

OPTIMIZER_VISITS = {"adamw": 21, "sgd": 11}
"""Floats that an optimizer step reads or writes for each parameter: torch starts a kernel an operation."""

OPTIMIZER_KERNELS = {"adamw": 9, "sgd": 4}

GRADIENT_VISITS = 7
"""The same for zeroing the gradients, adding a step's to them, and clipping."""

GRADIENT_KERNELS = 8
"""Kernels that zero and clip the one vector of gradients and keep the loss."""


@dataclass(frozen=True)
class Step:
    """What one step asks of a board, whichever board that is. Steps that run one after the other add up."""

    flops: float
    bytes_moved: float
    """Read and written by all kernels, as if there were no cache."""
    kernels: int

    def __add__(self, other: Step) -> Step:
        return Step(self.flops + other.flops, self.bytes_moved + other.bytes_moved, self.kernels + other.kernels)


@dataclass(frozen=True)
class Footprint:
    """Costs of one submodel. FLOPs count a multiply-add as two, matrix products only, as is usual."""

    depth: int
    parameters: int
    training: Pass
    scoring: Pass
    """Of the full-width blocks alone: a narrow submodel is not scored."""
    evaluation: Pass
    sample_bytes: int
    table: int
    """Parameters of a table of words, which are looked up and not multiplied."""
    activation_bytes: int
    """Bytes kept for the backward pass of one sample's training."""
    frozen: int = 0
    """Parameters that training leaves as they are: held once, as they came."""
    frozen_bytes: int = 0
    """What they take."""
    idle: int = 0
    """Of those, word table apart, the ones before every trained block: read going forward alone."""
    passed: int = 0
    """Of the frozen ones, those behind the first trained block that a gradient passes: read forward and back."""

    @property
    def trained(self) -> int:
        """Parameters that are trained."""
        return self.parameters - self.frozen

    @property
    def forward_flops(self) -> int:
        """FLOPs of the forward pass of one sample."""
        return self.evaluation.flops

    def forward_backward(self, batch: int) -> Step:
        """Return the forward and backward pass of one batch; a second one for the same update adds to the step."""
        return self._step(self.training, batch, self.idle, self.passed)

    def training_step(self, batch: int, optimizer: str) -> Step:
        """Return one step of training: forward, backward, clipping, optimizer."""
        visits = GRADIENT_VISITS + OPTIMIZER_VISITS[optimizer]
        kernels = GRADIENT_KERNELS + OPTIMIZER_KERNELS[optimizer]
        return self.forward_backward(batch) + Step(0, FLOAT_BYTES * visits * self.trained, kernels)

    def scoring_step(self, batch: int) -> Step:
        """Return one step of importance learning: forward, and backward to the gates; weights stay as they are."""
        return self._step(self.scoring, batch)

    def evaluation_step(self, batch: int) -> Step:
        """Return the evaluation of one batch."""
        return self._step(self.evaluation, batch)

    def loading_bytes(self, batch: int) -> int:
        """Return what is copied to bring a batch to the model: out of the client's data, and to the device."""
        return 3 * batch * self.sample_bytes

    def training_bytes(self, batch: int, optimizer: str) -> int:
        """Return peak memory of local training at steady state.

        Weights, received weights, gradients, optimizer state; of what is frozen the received weights alone. On top the
        larger of a step's activations, with what the backward pass holds for a moment, and the optimizer's temporaries.
        """
        activations = batch * self.training.held_bytes + self.training.workspace_bytes
        temporaries = FLOAT_BYTES * self.trained * OPTIMIZER_TEMPORARIES[optimizer]
        lasting = self.frozen_bytes + FLOAT_BYTES * self.trained * (3 + OPTIMIZER_FLOATS[optimizer])
        return lasting + max(activations, temporaries)

    def scoring_bytes(self, batch: int) -> int:
        """Return peak memory of scoring units: weights and received weights without gradients, and activations."""
        return self._weights_bytes + batch * self.scoring.held_bytes + self.scoring.workspace_bytes

    def evaluation_bytes(self, batch: int) -> int:
        """Return peak memory of counting predictions: weights, received weights, a forward pass, confusion counts."""
        activations = batch * self.evaluation.held_bytes + self.evaluation.workspace_bytes
        return self._weights_bytes + activations

    @property
    def _weights_bytes(self) -> int:
        """Bytes of the weights and of the received weights, which are the same where they are frozen."""
        return self.frozen_bytes + FLOAT_BYTES * 2 * self.trained

    def _step(self, phase: Pass, batch: int, idle: int = 0, passed: int = 0) -> Step:
        visits = phase.weight_visits * (self.parameters - self.table - idle) + phase.table_visits * self.table + idle
        visits -= passed  # no gradient is written
        return Step(
            flops=phase.flops * batch,
            bytes_moved=phase.traffic_bytes * batch + FLOAT_BYTES * visits + phase.step_bytes,
            kernels=phase.kernels,
        )


@lru_cache(maxsize=4096)
def footprint(
    shape: TransformerShape,
    counts: Tuple[GroupSizes, ...],
    precision: str = "float32",
    frozen: Frozen = NOTHING,
    checkpointing: bool = False,
) -> Footprint:
    """Return the costs of the submodel that keeps ``counts[b]`` units in block b; see ``passes.training``."""
    layout = layout_of(shape)
    left = {name: entry for name, entry in layout.items() if frozen.holds(entry)}
    alone = gradients.still(shape, counts, frozen)
    still = {
        name: entry
        for name, entry in left.items()
        if frozen.stream and entry.exit_after is None and (entry.block is None or entry.block < alone)
    }
    parameters_left = parameter_count(left, counts)
    passed = {name: e for name, e in left.items() if frozen.trunk and e.block is not None and e.block >= alone}
    return Footprint(
        depth=len(counts),
        parameters=parameter_count(layout, counts),
        training=passes.training(shape, counts, precision, frozen, checkpointing),
        scoring=passes.scoring(shape, counts, frozen),
        evaluation=passes.evaluation(shape, counts, frozen),
        sample_bytes=FLOAT_BYTES * math.prod(shape.sample_shape),
        table=shape.table,
        activation_bytes=passes.saved_bytes(shape, counts, precision, frozen, checkpointing),
        frozen=parameters_left,
        frozen_bytes=frozen.entry_bytes * parameters_left,
        idle=parameter_count(still, counts) - (shape.table if still else 0),
        passed=parameter_count(passed, counts),
    )
