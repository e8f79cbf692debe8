"""The figures of a stream's page."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cosp.report.figure_accuracy import board_height
from cosp.report.style import (
    HALF,
    WIDE,
    colour,
    from_zero,
    legend,
    new_figure,
    percents,
    quantities,
    rows_of,
    run_colour,
    run_dashes,
    ticks,
)
from cosp.report.units import time_unit
from cosp.stream.read import Row, StreamRun
from cosp.stream.tally import BoardTally

_HEAT_STEPS = 9


def accuracy_over_time(runs: Sequence[StreamRun], labels: Sequence[str]) -> Figure:
    """One line a run; of one run alone its worst board, too, and the moments at which a set was taken back."""
    unit = time_unit(max(run.tally.virtual_s for run in runs))
    figure, axes = new_figure(WIDE, 3.2)
    for i, (run, label) in enumerate(zip(runs, labels, strict=True)):
        window_s = run.header["window_s"] / unit.seconds
        seen = [(number, right.share) for number, right in sorted(run.tally.windows.items()) if right.share is not None]
        name = "all boards" if len(runs) == 1 else label
        axes.plot(
            [number * window_s for number, _ in seen], [share for _, share in seen],
            color=run_colour(i), linestyle=run_dashes(i), label=name,
        )  # fmt: skip
    if len(runs) == 1:
        _worst_board(runs[0], axes, unit.seconds)
        for row in runs[0].of("rollback"):
            axes.axvline(row["virtual_s"] / unit.seconds, color=colour("refused"), linewidth=0.8)
    axes.yaxis.set_major_formatter(percents())
    axes.set_xlabel(f"{_time(runs)} ({unit.name})")
    from_zero(axes)
    legend(axes, columns=4)
    return figure


def _time(runs: Sequence[StreamRun]) -> str:
    return "time" if all(run.header.get("real") for run in runs) else "virtual time"


def share_right(row: Row) -> float:
    """Return how much of a window was right, NaN where nobody knows."""
    return math.nan if row["right"] is None else float(row["right"] / row["samples"])


def _worst_board(run: StreamRun, axes: Axes, unit_s: float) -> None:
    grid, edges_s = _by_window(run, share_right)
    seen = ~np.isnan(grid).all(axis=0)
    worst = np.nanmin(grid[:, seen], axis=0)
    axes.plot(
        edges_s[1:][seen] / unit_s, worst, color=colour("muted"), linewidth=0.9, linestyle=(0, (1.4, 1.4)),
        label="worst board",
    )  # fmt: skip


def heat_of_boards(run: StreamRun, of: Callable[[Row], float], *, most: float, low: str, high: str) -> Figure:
    """Return a row a board and a column a window, the darker the nearer to ``most``."""
    unit = time_unit(run.tally.virtual_s)
    grid, edges_s = _by_window(run, of)
    names = [f"{row['client']} · {row['board']}" for row in run.of("client")]
    figure, axes = new_figure(HALF, board_height(len(names)) + 0.5)
    heat = ListedColormap([colour(f"heat{step}") for step in range(_HEAT_STEPS)])
    mesh = axes.pcolormesh(
        edges_s / unit.seconds, np.arange(len(names) + 1) - 0.5, np.ma.masked_invalid(grid), cmap=heat, vmin=0,
        vmax=most,
    )  # fmt: skip
    rows_of(axes, names)
    axes.grid(visible=False)
    axes.set_xlabel(f"{_time([run])} ({unit.name})")
    bar = figure.colorbar(mesh, ax=axes, location="top", aspect=46, pad=0.02, ticks=[0, most])
    bar.outline.set_visible(False)
    bar.ax.set_xticklabels([low, high])
    bar.ax.get_xticklabels()[0].set_horizontalalignment("left")
    bar.ax.get_xticklabels()[-1].set_horizontalalignment("right")
    bar.ax.tick_params(length=0, pad=2)
    return figure


def _by_window(run: StreamRun, of: Callable[[Row], float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (boards, windows), NaN where a board answered nothing, and the windows' edges in seconds."""
    places = {row["client"]: i for i, row in enumerate(run.of("client"))}
    rows = run.of("window")
    last = max(row["window"] for row in rows)
    grid = np.full((len(places), last), np.nan)
    for row in rows:
        if row["samples"]:
            grid[places[row["client"]], row["window"] - 1] = of(row)
    return grid, np.arange(last + 1) * run.header["window_s"]


def bytes_of_boards(boards: Sequence[BoardTally], names: Sequence[str]) -> Figure:
    figure, axes = new_figure(HALF, board_height(len(boards)))
    rows_of(axes, names)
    at = np.arange(len(boards))
    axes.barh(at - 0.17, [one.bytes_down for one in boards], height=0.32, color=colour("received"), label="down")
    axes.barh(at + 0.17, [one.bytes_up for one in boards], height=0.32, color=colour("sent"), label="up")
    axes.xaxis.set_major_locator(ticks(6))
    axes.xaxis.set_major_formatter(quantities("B"))
    axes.set_xlim(left=0)
    legend(axes, columns=2, rows=True)
    return figure


def energy_of_boards(boards: Sequence[BoardTally], names: Sequence[str]) -> Figure:
    figure, axes = new_figure(HALF, board_height(len(boards)))
    rows_of(axes, names)
    axes.barh(range(len(boards)), [one.energy_j for one in boards], height=0.62, color=colour("trained"))
    axes.xaxis.set_major_locator(ticks(6))
    axes.xaxis.set_major_formatter(quantities("J"))
    axes.set_xlim(left=0)
    return figure
