"""Values over seeds: mean, standard deviation, 95 % interval of the mean, paired differences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from scipy import stats  # type: ignore[import-untyped]

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Spread:
    """``half`` is half the width of Student's t interval of the mean; one value has neither ``sd`` nor ``half``."""

    mean: float
    sd: float | None
    half: float | None
    count: int

    def range(self, least: float, most: float) -> tuple[float, float]:
        """Return the ends of the interval, as far as values can lie; a value alone is both."""
        half = self.half or 0.0
        return max(least, self.mean - half), min(most, self.mean + half)

    def bars(self, least: float, most: float) -> tuple[list[float], list[float]] | None:
        """Return how far one deviation goes below and above the mean, as far as values can lie; None without one."""
        if self.sd is None:
            return None
        return [min(self.sd, max(0.0, self.mean - least))], [min(self.sd, max(0.0, most - self.mean))]


def spread(values: Sequence[float | None]) -> Spread | None:
    """Return the spread of the values that are known; None if none is."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    if len(known) == 1:
        return Spread(known[0], None, None, 1)
    sd = stdev(known)
    half = float(stats.t.ppf(0.5 + CONFIDENCE / 2, len(known) - 1)) * sd / math.sqrt(len(known))
    return Spread(fmean(known), sd, half, len(known))


def paired(values: Mapping[int, float | None], base: Mapping[int, float | None]) -> Spread | None:
    """Return the spread of the differences to ``base`` at the seeds that both have."""
    return spread([_minus(value, base.get(seed)) for seed, value in values.items()])


def _minus(value: float | None, other: float | None) -> float | None:
    return None if value is None or other is None else value - other
