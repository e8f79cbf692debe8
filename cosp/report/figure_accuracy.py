"""Accuracy against rounds and virtual time, exit by exit and run by run."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cosp.report.rows import Round, Run, Scores
from cosp.report.style import (
    HALF,
    WIDE,
    colour,
    from_zero,
    legend,
    new_figure,
    percents,
    ramp,
    rows_of,
    run_colour,
    run_dashes,
    ticks,
)
from cosp.report.summary import summarise
from cosp.report.tallies import BoardTotals
from cosp.report.units import TimeUnit, time_unit


@dataclass(frozen=True)
class Line:
    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]


LEAST_SPAN = 0.01
"""Of the axis on which exits are compared, so that differences without meaning look small."""


def exit_lines(run: Run, x: Callable[[Round], float]) -> list[Line]:
    """Accuracy of each exit from shallow to deep, then of their mean, then of the chosen exit, where evaluated."""
    rounds = run.evaluated
    at = tuple(x(row) for row, _ in rounds)

    def line(name: str, accuracy: Callable[[Scores], float]) -> Line:
        return Line(name, at, tuple(accuracy(scores) for _, scores in rounds))

    accuracies = (
        zip(*(scores.accuracy for _, scores in rounds), strict=True) if rounds else ((),) * len(run.header.exits)
    )
    exits = [Line(f"after block {block}", at, y) for block, y in zip(run.header.exits, accuracies, strict=True)]
    return [*exits, line("mean of exits", lambda s: s.mean_accuracy), line("chosen exit", lambda s: s.chosen_accuracy)]


def accuracy_against_rounds(runs: Sequence[Run], labels: Sequence[str]) -> Figure:
    return _accuracy(runs, labels, lambda row: row.version, "rounds (versions of the global model)")


def accuracy_against_time(runs: Sequence[Run], labels: Sequence[str]) -> Figure:
    unit = longest_unit(runs)
    return _accuracy(runs, labels, lambda row: row.virtual_s / unit.seconds, f"{clock_of(runs)} ({unit.name})")


def clock_of(runs: Sequence[Run]) -> str:
    """Return what the times of ``runs`` are: virtual, or where some are of real boards not all of them."""
    return "time" if any(run.measured for run in runs) else "virtual time"


def longest_unit(runs: Sequence[Run]) -> TimeUnit:
    return time_unit(max(run.virtual_s for run in runs))


def _accuracy(runs: Sequence[Run], labels: Sequence[str], x: Callable[[Round], float], x_label: str) -> Figure:
    figure, axes = new_figure(HALF, 3.35)
    if len(runs) == 1:
        _draw_exits(axes, exit_lines(runs[0], x))
    else:
        for index, run in enumerate(runs):
            deepest = exit_lines(run, x)[-3]
            axes.plot(deepest.x, deepest.y, color=run_colour(index), linestyle=run_dashes(index), label=labels[index])
    legend(axes, columns=3 if len(runs) == 1 else _columns(labels, 56))
    axes.set_xlabel(x_label)
    from_zero(axes)
    axes.xaxis.set_major_locator(ticks(8, integer=x_label.startswith("rounds")))
    axes.yaxis.set_major_formatter(percents())
    _round_limits(axes)
    return figure


def _draw_exits(axes: Axes, lines: Sequence[Line]) -> None:
    *exits, mean, chosen = lines
    for index, line in enumerate(exits):
        axes.plot(line.x, line.y, color=ramp(index, len(exits)), label=line.name)
    axes.plot(mean.x, mean.y, color=colour("mean"), linestyle=(0, (4, 1.4)), label=mean.name)
    often = max(1, len(chosen.x) // 12)
    ring: dict[str, Any] = {"marker": "o", "markersize": 4, "markerfacecolor": "none", "markevery": often}
    axes.plot(chosen.x, chosen.y, color=colour("chosen"), linestyle="none", label=chosen.name, **ring)


def _round_limits(axes: Axes) -> None:
    """Whole tens of percent, so that figures of one page are easy to compare."""
    low, high = axes.dataLim.intervaly
    if math.isfinite(low) and math.isfinite(high):
        axes.set_ylim(max(0.0, math.floor(low * 10) / 10), min(1.0, math.ceil(high * 10 + 0.1) / 10) + 0.004)


def accuracy_of_exits(runs: Sequence[Run], labels: Sequence[str]) -> Figure:
    """Final accuracy of each exit, the mean and the chosen exit, one row each and one dot a run."""
    exits = runs[0].header.exits
    names = [f"exit after block {block}" for block in exits] + ["mean of exits", "chosen exit"]
    figure, axes = new_figure(WIDE, 0.75 + (0.2 + 0.06 * len(runs)) * len(names))
    for index, run in enumerate(runs):
        final = summarise(run).final
        if final is None or len(final.accuracy) != len(exits):
            continue
        values = [*final.accuracy, final.mean_accuracy, final.chosen_accuracy]
        shift = 0.55 * ((index + 0.5) / len(runs) - 0.5)
        colours = [run_colour(index)] * len(names)
        if len(runs) == 1:
            colours = [*(ramp(i, len(exits)) for i in range(len(exits))), colour("mean"), colour("chosen")]
        at = [row + shift for row in range(len(names))]
        axes.scatter(values, at, s=38, c=colours, zorder=3, label=labels[index])
        if len(runs) == 1:
            for value, row in zip(values, at, strict=True):
                axes.annotate(f"{100 * value:.1f} %", (value, row), (7, 0), textcoords="offset points", va="center")
    rows_of(axes, names)
    axes.grid(visible=True, axis="y")
    axes.set_xlabel("accuracy on the test set")
    axes.xaxis.set_major_formatter(percents(digits=1))  # exits often lie within a percent
    axes.xaxis.set_major_locator(ticks(8))
    axes.margins(x=0.08)
    low, high = axes.get_xlim()
    if high - low < LEAST_SPAN:  # a tenth of a percent is the finest tick
        axes.set_xlim((low + high - LEAST_SPAN) / 2, (low + high + LEAST_SPAN) / 2)
    if len(runs) > 1:
        legend(axes, columns=_columns(labels, 120), rows=True)
    return figure


def _columns(labels: Sequence[str], characters: int) -> int:
    """How many columns of ``labels`` and their marks fit in a legend that is ``characters`` wide."""
    return max(1, min(5, characters // (max(map(len, labels)) + 6)))


def local_accuracy(totals: Sequence[BoardTotals]) -> Figure:
    """For each client a line from the accuracy of the submodel as received to that after training."""
    figure, axes = new_figure(WIDE, board_height(len(totals)))
    rows = [(row, t.received, t.trained) for row, t in enumerate(totals)]
    both = [(row, a, b) for row, a, b in rows if a is not None and b is not None]
    at = [row for row, _, _ in both]
    before, after = [a for _, a, _ in both], [b for _, _, b in both]
    axes.hlines(at, before, after, color=colour("received"), linewidth=2.0)
    axes.scatter(
        before,
        at,
        s=24,
        facecolors=colour("surface"),
        edgecolors=colour("trained"),
        linewidths=1.1,
        label="received",
        zorder=3,
    )
    axes.scatter(after, at, s=24, c=colour("trained"), label="after local training", zorder=3)
    rows_of(axes, [t.client.title for t in totals])
    axes.grid(visible=True, axis="y")
    axes.set_xlabel("accuracy on the client's own held-back data")
    axes.xaxis.set_major_locator(ticks(10))
    axes.xaxis.set_major_formatter(percents())
    legend(axes, columns=2, rows=True)
    return figure


def board_height(boards: int) -> float:
    return 0.75 + 0.185 * boards
