"""From steps that a board has trained to a better profile of it, without a calibration run of its own."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cosp.fleet.profiles import DeviceProfile, Spread

FEWEST = 3
"""Tasks below which a profile is left alone: the first step on a GPU compiles and warms up."""


@dataclass(frozen=True, kw_only=True)
class Observed:
    """A task's training step: seconds that the cost model gave it, and that the board took (``wall_step_s``)."""

    predicted_s: float
    measured_s: float

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 < value < math.inf:
                raise ValueError(f"{name} must be finite and > 0, got {value}")

    @property
    def slowness(self) -> float:
        return self.measured_s / self.predicted_s


def slowness(observed: Sequence[Observed]) -> float:
    """Return how many times as long as predicted the median task took; 1 while too few have been seen.

    The median, because a stall or a throttled task has no weight in it.
    """
    return statistics.median(task.slowness for task in observed) if len(observed) >= FEWEST else 1.0


def corrected(profile: DeviceProfile, observed: Sequence[Observed]) -> DeviceProfile:
    """Return ``profile`` with all its rates multiplied so that the median task takes as long as it did.

    One factor for arithmetic, memory and launches: plans on one board are too alike to tell these apart (``cosp
    calibrate`` can), and a roofline scaled as a whole predicts every step scaled alike. The factor is ``slowness``; the
    new range spans the middle four in five of what was seen.
    """
    if len(observed) < FEWEST:
        return profile
    factor = slowness(observed)
    tenths = statistics.quantiles((task.slowness for task in observed), n=10, method="inclusive")
    rates = (factor / tenths[-1], factor / tenths[0])
    return replace(
        profile,
        flops_per_s=profile.flops_per_s / factor,
        half_flops_per_s=profile.half_flops_per_s and profile.half_flops_per_s / factor,
        memory_bytes_per_s=profile.memory_bytes_per_s / factor,
        launch_s=profile.launch_s * factor,
        calibration=f"corrected by {factor:.2f} from {len(observed)} tasks that it trained",
        spread=Spread(
            flops_per_s=rates,
            half_flops_per_s=rates,
            memory_bytes_per_s=rates,
            launch_s=(1 / rates[1], 1 / rates[0]),
        ),
    )
