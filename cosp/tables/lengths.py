"""Longer and longer runs told from one: accuracy by a time, and from when on one line leads another for good."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cosp.tables.lines import Line, Measure
from cosp.tables.outcome import Point

TIMES = 200

Curve = NDArray[np.float64]


def by(length_s: float) -> Measure:
    """Return the chosen exit's accuracy at the last evaluation within ``length_s`` of virtual time; None if the run
    ended before: what it would have had is not known.
    """

    def of(outcome: object, points: Sequence[Point], target: float | None) -> float | None:
        within = [point for point in points if point.virtual_s <= length_s]
        ended = len(within) == len(points) and length_s > points[-1].virtual_s * (1 + ENDED)
        return within[-1].chosen if within and not ended else None

    return Measure(f"chosen_by_{length_s:g}_s", of)


ENDED = 0.05
"""A run ends with the last version that closes within its time: a little before it, by this share at most."""


def curve(line: Line) -> tuple[Curve, Curve, Curve]:
    """Return times, mean and standard deviation over seeds of the chosen exit's accuracy, as far as all seeds go,
    straight between evaluations.
    """
    end_s = min(points[-1].virtual_s for points in line.points.values())
    times_s = np.linspace(0.0, end_s, TIMES)
    curves = np.array([_at(times_s, points) for points in line.points.values()])
    spread = curves.std(axis=0, ddof=1) if len(curves) > 1 else np.zeros(TIMES)
    return times_s, curves.mean(axis=0), spread


def lead_from_s(line: Line, other: Line) -> float | None:
    """Return the virtual time from which on the mean over the seeds that both have is above that of ``other``, to the
    end of the shorter; None if it is not above there, or no seed is in both.
    """
    seeds = [seed for seed in line.points if seed in other.points]
    if not seeds:
        return None
    end_s = min(one.points[seed][-1].virtual_s for one in (line, other) for seed in seeds)
    times_s = np.linspace(0.0, end_s, TIMES)
    ahead = np.mean([_at(times_s, line.points[s]) - _at(times_s, other.points[s]) for s in seeds], axis=0) > 0
    if not ahead[-1]:
        return None
    behind = np.flatnonzero(~ahead)
    return float(times_s[behind[-1] + 1]) if len(behind) else 0.0


def _at(times_s: Curve, points: Sequence[Point]) -> Curve:
    return np.interp(times_s, [point.virtual_s for point in points], [point.chosen for point in points])
