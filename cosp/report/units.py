"""Numbers as people read them: virtual time, bytes, joules, shares."""

from __future__ import annotations

import math
from dataclasses import dataclass

MISSING = "–"
_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


@dataclass(frozen=True)
class TimeUnit:
    name: str
    seconds: float


def time_unit(span_s: float) -> TimeUnit:
    """The unit in which an axis of ``span_s`` seconds reads best: at least two of it, else the next smaller one."""
    for unit in (TimeUnit("hours", 3600.0), TimeUnit("minutes", 60.0)):
        if span_s >= 2 * unit.seconds:
            return unit
    return TimeUnit("seconds", 1.0)


def duration(seconds: float | None) -> str:
    if seconds is None:
        return MISSING
    unit = time_unit(seconds)
    short = {"hours": "h", "minutes": "min", "seconds": "s"}[unit.name]
    return f"{_three_digits(seconds / unit.seconds)} {short}"


def quantity(value: float | None, unit: str) -> str:
    """Three digits and an SI prefix: ``quantity(1_530_000, "B") == "1.53 MB"``."""
    if value is None:
        return MISSING
    for factor, prefix in _PREFIXES:
        if abs(value) >= factor:
            return f"{_three_digits(value / factor)} {prefix}{unit}".strip()
    return f"{_three_digits(value)} {unit}".strip()


def tick(value: float, unit: str) -> str:
    """A label on an axis: as ``quantity`` but without trailing zeros."""
    factor, prefix = next(((f, p) for f, p in _PREFIXES if abs(value) >= f), (1.0, ""))
    return f"{value / factor:.3g} {prefix}{unit}" if value else "0"


def percent(share: float | None) -> str:
    return MISSING if share is None else f"{100 * share:.1f} %"


def ratio(value: float | None) -> str:
    return MISSING if value is None else f"{value:.2f}"


def quorum(value: float) -> str:
    """A quorum up to 1 is a share of the tasks in flight, above it a count."""
    return f"{100 * value:g} %" if value <= 1 else f"{value:g} arrivals"


def _three_digits(value: float) -> str:
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    decimals = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{min(decimals, 3)}f}" if value != int(value) else f"{value:.0f}"
