"""A table's lines, one a variant, and what is measured of each: mean over seeds, difference to the base at same seeds.

Nothing here is rounded or put into words; see ``sheets.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cosp.tables.outcome import Outcome, Point
from cosp.tables.spread import Spread, paired, spread


@dataclass(frozen=True, kw_only=True)
class Line:
    """One variant at one level of the grid: what its seeds reached, and how they got there."""

    variant: str
    outcomes: Mapping[int, Outcome]
    """Seed -> figures, of the seeds that have a result."""
    points: Mapping[int, Sequence[Point]]

    @property
    def first(self) -> Outcome:
        return next(iter(self.outcomes.values()))

    @property
    def exits(self) -> tuple[int, ...]:
        """Blocks after which any of its models has an exit."""
        return tuple(sorted({block for outcome in self.outcomes.values() for block in outcome.exits}))

    @property
    def has_backdoor(self) -> bool:
        """Tell whether its fleet has boards with a backdoor."""
        return any(outcome.backdoor is not None for outcome in self.outcomes.values())

    def values(self, measure: Measure, target: float | None) -> dict[int, float | None]:
        return {seed: measure.of(outcome, self.points[seed], target) for seed, outcome in self.outcomes.items()}

    def spread(self, measure: Measure, target: float | None) -> Spread | None:
        return spread(list(self.values(measure, target).values()))

    def beside(self, base: Line, measure: Measure, target: float | None) -> Spread | None:
        """Return the differences to ``base``, seed by seed."""
        return paired(self.values(measure, target), base.values(measure, target))


def line_of(lines: Sequence[Line], variant: str) -> Line | None:
    """Return the variant's line, None if it has no result."""
    return next((line for line in lines if line.variant == variant), None)


@dataclass(frozen=True)
class Measure:
    """Something to be told of a run; None where the run does not say it. ``target`` is an accuracy to reach."""

    name: str
    of: Callable[[Outcome, Sequence[Point], float | None], float | None]


def reached(points: Sequence[Point], target: float | None) -> Point | None:
    """Return the first evaluation at which the chosen exit's test accuracy is ``target`` or more."""
    return next((point for point in points if target is not None and point.chosen >= target), None)


def mean_staleness(outcome: Outcome) -> float | None:
    merged = sum(outcome.staleness)
    return sum(age * count for age, count in enumerate(outcome.staleness)) / merged if merged else None


def _field(name: str) -> Measure:
    return Measure(name, lambda outcome, points, target: getattr(outcome, name))


def exit_accuracy(block: int) -> Measure:
    """Return the test accuracy of the exit after ``block``; None where the method's model has none there."""
    return Measure(
        f"accuracy_after_block_{block}",
        lambda outcome, points, target: dict(zip(outcome.exits, outcome.accuracy, strict=True)).get(block),
    )


CHOSEN = _field("chosen")
DEEPEST = Measure("deepest", lambda outcome, points, target: outcome.accuracy[-1])
VALIDATION = Measure("validation", lambda outcome, points, target: outcome.valid)
TO_TARGET_S = Measure(
    "s_to_target", lambda outcome, points, target: p.virtual_s if (p := reached(points, target)) else None
)
VERSIONS_TO_TARGET = Measure(
    "versions_to_target", lambda outcome, points, target: p.version if (p := reached(points, target)) else None
)
BACKDOOR = _field("backdoor")
STALENESS = Measure("mean_staleness", lambda outcome, points, target: mean_staleness(outcome))

FIELDS = {
    name: _field(name)
    for name in (
        "mean_of_exits", "best", "best_s", "macro_f1", "loss", "local_mean", "local_worst", "received_mean",
        "received_worst", "versions", "virtual_s", "updates", "refused", "drift", "utilisation", "bytes_down",
        "bytes_up", "energy_j", "peak_bytes", "mean_peak_bytes", "memory_used", "capacity_used", "wall_s",
    )
}  # fmt: skip


def measures(line: Line) -> list[Measure]:
    """Return everything that is measured of a line: with the exits that its models have, and a backdoor if one is."""
    shown = [CHOSEN, DEEPEST, *map(exit_accuracy, line.exits), VALIDATION]
    backdoor = [BACKDOOR] if line.has_backdoor else []
    return [*shown, *FIELDS.values(), STALENESS, TO_TARGET_S, VERSIONS_TO_TARGET, *backdoor]
