"""What each board moved, spent and needed, and which classes it holds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from cosp.report.figure_accuracy import board_height
from cosp.report.style import HALF, colour, legend, new_figure, quantities, rows_of, ticks
from cosp.report.tallies import BoardTotals
from cosp.report.units import quantity


def bytes_of_boards(totals: Sequence[BoardTotals]) -> Figure:
    figure, axes = _board_axes(totals)
    at = np.arange(len(totals))
    axes.barh(at - 0.17, [t.bytes_down for t in totals], height=0.32, color=colour("received"), label="down")
    axes.barh(at + 0.17, [t.bytes_up for t in totals], height=0.32, color=colour("sent"), label="up")
    _quantities(axes, "B")
    legend(axes, columns=2, rows=True)
    return figure


def energy_of_boards(totals: Sequence[BoardTotals]) -> Figure:
    figure, axes = _board_axes(totals)
    axes.barh(range(len(totals)), [t.energy_j for t in totals], height=0.62, color=colour("trained"))
    for row, board in enumerate(totals):
        label = quantity(board.energy_j, "J")
        axes.annotate(
            label, (board.energy_j, row), (3, 0), textcoords="offset points", va="center", color=colour("muted")
        )
    axes.margins(x=0.13)
    _quantities(axes, "J")
    return figure


def memory_of_boards(totals: Sequence[BoardTotals]) -> Figure:
    """Peak of each board as a dot, what it may use as a mark; the axis is logarithmic as boards differ by decades."""
    figure, axes = _board_axes(totals)
    at = np.arange(len(totals))
    used = [(row, t) for row, t in enumerate(totals) if t.peak_memory_bytes > 0]
    limits = [t.limit_bytes for t in totals]
    over = [t.peak_memory_bytes > t.limit_bytes for _, t in used]
    peaks = [t.peak_memory_bytes for _, t in used]
    axes.hlines([row for row, _ in used], peaks, [t.limit_bytes for _, t in used], color=colour("grid"), linewidth=2.4)
    axes.scatter(
        limits, at, marker="|", s=70, linewidths=1.8, c=colour("ink"), label="what its tasks may hold", zorder=3
    )
    colours = [colour("refused" if too_much else "trained") for too_much in over]
    axes.scatter(peaks, [row for row, _ in used], s=26, c=colours or None, label="peak in training", zorder=3)
    seen = [(row, t.measured_bytes) for row, t in enumerate(totals) if t.measured_bytes]
    if seen:
        axes.scatter(
            [size for _, size in seen], [row for row, _ in seen], s=26, facecolors="none", edgecolors=colour("trained"),
            label="measured", zorder=3,
        )  # fmt: skip
    axes.set_xscale("log")
    _decades(axes, [*peaks, *limits, *(size for _, size in seen)])
    legend(axes, columns=3 if seen else 2, rows=True)
    return figure


def _decades(axes: Axes, values: Sequence[float]) -> None:
    """Ticks at 1, 2, 5 x 10^n where few decades are shown, else at 10^n, written as bytes."""
    low, high = 0.7 * min(values), 1.5 * max(values)
    powers = range(3, 15)
    steps = (1, 2, 5) if high / low < 300 else (1,)
    ticks = [step * 10.0**power for power in powers for step in steps]
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(FixedLocator([tick for tick in ticks if low <= tick <= high]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(quantities("B"))


def _board_axes(totals: Sequence[BoardTotals]) -> tuple[Figure, Axes]:
    figure, axes = new_figure(HALF, board_height(len(totals)))
    rows_of(axes, [t.client.title for t in totals])
    return figure, axes


def _quantities(axes: Axes, unit: str) -> None:
    axes.xaxis.set_major_locator(ticks(6))
    axes.xaxis.set_major_formatter(quantities(unit))
    axes.set_xlim(left=0)
