"""From timed steps to the constants of the cost model: sustained FLOP/s, memory bandwidth, time per kernel.

    seconds = flops (1 + b0 / batch) / rate + bytes / bandwidth + kernels x launch

is linear in 1 / rate, b0 / rate, 1 / bandwidth and launch, none of which can be negative. Errors are weighed relative
to the time, so that a step of a millisecond counts as much as one of a second.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls  # type: ignore[import-untyped]

from cosp.fleet.cost import Work


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One step and the seconds that it took."""

    step: Work
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What a machine sustains; infinite where the timings show no cost at all."""

    flops_per_s: float
    half_batch: float
    memory_bytes_per_s: float
    launch_s: float

    def step_s(self, step: Work) -> float:
        """Return the seconds of one step: its parts follow one another."""
        arithmetic_s = step.step_flops * (1 + self.half_batch / step.batch) / self.flops_per_s
        memory_s = (step.step_bytes + step.load_bytes) / self.memory_bytes_per_s
        return arithmetic_s + memory_s + step.step_kernels * self.launch_s


def fit(timings: Sequence[Timing]) -> Rates:
    """Return the rates with the least squared relative error; ``ValueError`` without as many timings as constants."""
    if len(timings) < 4:
        raise ValueError(f"timings must be at least 4, got {len(timings)}")
    rows = [_row(timing.step) for timing in timings]
    per_flop, per_flop_of_a_sample, per_byte, per_kernel = _least_squares(
        np.array(rows) / np.array([[timing.seconds] for timing in timings])
    )
    return Rates(
        flops_per_s=_inverse(per_flop),
        half_batch=per_flop_of_a_sample / per_flop if per_flop else 0.0,
        memory_bytes_per_s=_inverse(per_byte),
        launch_s=per_kernel,
    )


def _row(step: Work) -> tuple[float, ...]:
    return step.step_flops, step.step_flops / step.batch, step.step_bytes + step.load_bytes, step.step_kernels


def _least_squares(relative: np.ndarray) -> tuple[float, ...]:
    """Return c >= 0 that brings relative @ c nearest to ones; ``nnls`` wants columns of like size."""
    scale = relative.max(axis=0)
    columns, ones = relative / scale, np.ones(len(relative))
    found, _ = nnls(columns, ones)
    if found[1] and not found[0]:  # b0 means nothing without a rate
        columns[:, 1] = 0.0
        found, _ = nnls(columns, ones)
    return tuple(float(value) for value in found / scale)


def _inverse(value: float) -> float:
    return 1 / value if value else math.inf
