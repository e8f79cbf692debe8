"""Figures of one level of a table: accuracy over virtual time, accuracy against memory, utilisation, staleness."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cosp.report.style import (
    HALF,
    WIDE,
    colour,
    from_zero,
    house_style,
    legend,
    new_figure,
    percents,
    quantities,
    rows_of,
    run_colour,
    run_dashes,
    save_svg,
    ticks,
)
from cosp.report.units import time_unit
from cosp.tables.lengths import curve, lead_from_s
from cosp.tables.lines import CHOSEN, FIELDS, Line, line_of, mean_staleness

IN_A_PANEL = 5
"""Variants in one panel of accuracy, beside the base, which is in each."""
OLDEST = 8
"""Ages from this one on share a bar."""


def draw_accuracy(lines: Sequence[Line], base: str, path: Path) -> None:
    """Chosen exit's accuracy over virtual time: mean over seeds, and a band of one standard deviation; a dot where the
    base goes ahead of another for good.
    """
    first, others = _apart(lines, base)
    panels = [others[i : i + IN_A_PANEL] for i in range(0, len(others), IN_A_PANEL)] or [[]]
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    with house_style():
        figure = Figure(figsize=(HALF * columns if columns > 1 else 7.5, 3.6 * rows), layout="constrained")
        axes = list(figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flat)
        for panel, shown in zip(axes, panels, strict=False):
            _accuracy(panel, first, shown)
        _finish(axes, len(panels), columns)
        save_svg(figure, path)


def draw_memory(lines: Sequence[Line], path: Path) -> None:
    """Chosen exit's accuracy against the boards' mean peak memory; the line joins those that no other beats in both."""
    with house_style():
        figure, axes = new_figure(7.5, 4.4)
        spots = [(_mean(line, "mean_peak_bytes"), line.spread(CHOSEN, None)) for line in lines]
        for number, (line, (bytes_held, found)) in enumerate(zip(lines, spots, strict=True)):
            assert found is not None
            style: dict[str, Any] = {"color": run_colour(number), "marker": "osD^v"[number // 8 % 5]}
            axes.errorbar(bytes_held, found.mean, yerr=found.bars(0.0, 1.0), capsize=2, elinewidth=1, linestyle="",
                          markersize=5, label=line.variant, **style)  # fmt: skip
        front = _front([(held, found.mean) for held, found in spots if found is not None])
        axes.plot(*zip(*front, strict=True), color=colour("muted"), linewidth=0.9, zorder=0, drawstyle="steps-post")
        axes.xaxis.set_major_formatter(quantities("B"))
        axes.xaxis.set_major_locator(ticks(8))
        axes.yaxis.set_major_formatter(percents(digits=None))
        axes.set_xlabel("peak memory of a board, mean over boards")
        axes.set_ylabel("accuracy of the chosen exit")
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), handletextpad=0.3)
        save_svg(figure, path)


def draw_utilisation(lines: Sequence[Line], path: Path) -> None:
    """Share of the boards' time that each variant used: mean and standard deviation over seeds."""
    with house_style():
        figure, axes = new_figure(7.5, 0.9 + 0.26 * len(lines))
        rows_of(axes, [line.variant for line in lines])
        for row, line in enumerate(lines):
            found = line.spread(FIELDS["utilisation"], None)
            assert found is not None
            axes.barh(row, found.mean, height=0.62, color=colour("trained"))
            axes.errorbar(found.mean, row, xerr=found.bars(0.0, 1.0), color=colour("ink"), elinewidth=1, capsize=2)
            right = min(1.0, found.mean + (found.sd or 0.0))
            axes.annotate(f"{found.mean:.0%}", (right, row), (5, 0), textcoords="offset points", va="center")
        axes.set_xlim(0, 1.08)
        axes.xaxis.set_major_formatter(percents())
        axes.set_xticks(np.linspace(0, 1, 6))
        axes.set_xlabel("share of all boards' time spent computing or transferring")
        save_svg(figure, path)


def draw_staleness(lines: Sequence[Line], path: Path) -> None:
    """Ages of merged updates, one small plot a variant."""
    columns = min(4, len(lines))
    rows = -(-len(lines) // columns)
    with house_style():
        figure = Figure(figsize=(WIDE * columns / 4, 0.4 + 1.7 * rows), layout="constrained")
        panels = list(figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flat)
        for panel, line in zip(panels, lines, strict=False):
            _ages(panel, line)
        _finish(panels, len(lines), columns)
        figure.supxlabel(
            "versions that the server moved on while an update was made", fontsize=8, color=colour("muted")
        )
        save_svg(figure, path)


def _accuracy(axes: Axes, base: Line | None, others: Sequence[Line]) -> None:
    shown = [*([base] if base else []), *others]
    end_s = max(points[-1].virtual_s for line in shown for points in line.points.values())
    unit = time_unit(end_s)
    for number, line in enumerate(shown):
        times_s, mean, sd = curve(line)
        x = times_s / unit.seconds
        look = colour("ink") if line is base else run_colour(number - bool(base))
        dashes = "-" if line is base else run_dashes(number)
        axes.fill_between(
            x, np.maximum(mean - sd, 0.0), np.minimum(mean + sd, 1.0), color=look, alpha=0.13, linewidth=0
        )
        axes.plot(x, mean, color=look, linestyle=dashes, label=line.variant)
        if base is not None and line is not base and (lead_s := lead_from_s(base, line)):
            axes.plot(lead_s / unit.seconds, np.interp(lead_s, times_s, mean), "o", color=look, markersize=5,
                      markeredgecolor=colour("ink"))  # fmt: skip
    axes.xaxis.set_major_locator(ticks(7))
    axes.yaxis.set_major_formatter(percents(digits=None))
    axes.set_xlabel(f"virtual time, {unit.name}")
    axes.set_ylabel("accuracy of the chosen exit")
    from_zero(axes)
    legend(axes, columns=3)


def _ages(axes: Axes, line: Line) -> None:
    counts = np.zeros(OLDEST + 1)
    for outcome in line.outcomes.values():
        for age, merged in enumerate(outcome.staleness):
            counts[min(age, OLDEST)] += merged
    axes.bar(range(OLDEST + 1), counts / max(1.0, counts.sum()), width=0.72, color=colour("trained"))
    axes.set_xticks(range(0, OLDEST + 1, 2), [*map(str, range(0, OLDEST, 2)), f"{OLDEST}+"])
    axes.yaxis.set_major_formatter(percents(digits=None))
    axes.grid(visible=False, axis="x")
    means = map(mean_staleness, line.outcomes.values())
    found = [mean for mean in means if mean is not None]
    axes.set_title(line.variant + (f", mean {fmean(found):.1f}" if found else ""), loc="left", color=colour("ink"))


def _finish(panels: Sequence[Axes], used: int, columns: int) -> None:
    """Hide the panels that are left over, and label the time axis of those with none below."""
    for number, panel in enumerate(panels):
        panel.set_visible(number < used)
        lowest = number >= used - columns
        panel.tick_params(labelbottom=lowest)
        panel.set_xlabel(panel.get_xlabel() if lowest else "")


def _front(spots: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the spots that no other beats with less memory and more accuracy, by memory."""
    front: list[tuple[float, float]] = []
    for held, accuracy in sorted(spots, key=lambda spot: (spot[0], -spot[1])):
        if not front or accuracy > front[-1][1]:
            front.append((held, accuracy))
    return front


def _apart(lines: Sequence[Line], base: str) -> tuple[Line | None, list[Line]]:
    first = line_of(lines, base)
    return first, [line for line in lines if line is not first]


def _mean(line: Line, name: str) -> float:
    found = line.spread(FIELDS[name], None)
    assert found is not None
    return found.mean
