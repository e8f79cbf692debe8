"""What the server merged: staleness of the updates, coverage of the blocks, bytes over time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from cosp.report.figure_accuracy import longest_unit
from cosp.report.rows import Round, Run
from cosp.report.style import HALF, colour, from_zero, legend, new_figure, quantities, ticks
from cosp.report.tallies import staleness_counts

_HEAT_STEPS = 9
_MOST_COLUMNS = 150  # more versions than this are averaged in groups


def staleness_histogram(run: Run) -> Figure:
    counts = staleness_counts(run.arrivals)
    ages = list(counts)
    merged = np.array([counts[age][0] for age in ages])
    refused = np.array([counts[age][1] for age in ages])
    figure, axes = new_figure(HALF, 3.0)
    axes.bar(ages, merged, width=0.72, color=colour("trained"), label="merged")
    if refused.any():
        axes.bar(ages, refused, bottom=merged, width=0.72, color=colour("refused"), label="refused")
    for age in ages if len(ages) <= 20 else ():
        axes.annotate(f"{sum(counts[age])}", (age, sum(counts[age])), (0, 2), textcoords="offset points", ha="center")
    axes.xaxis.set_major_locator(ticks(12, integer=True))
    axes.yaxis.set_major_locator(ticks(6, integer=True))
    axes.grid(visible=False, axis="x")
    axes.set_xlim(-0.6, max(ages, default=0) + 0.6)
    axes.margins(y=0.09)
    axes.set_xlabel("staleness (versions that the server moved on in the meantime)")
    axes.set_ylabel("training tasks")
    legend(axes, columns=2, rows=True)
    return figure


def coverage_grid(rounds: Sequence[Round]) -> tuple[list[float], np.ndarray]:
    """Edges on the version axis (columns + 1,) and mean coverage (blocks, columns), of trained versions only."""
    trained = [row for row in rounds if row.version > 0 and row.closed_by != "end"]
    group = max(1, -(-len(trained) // _MOST_COLUMNS))
    columns = [trained[i : i + group] for i in range(0, len(trained), group)]
    edges = [columns[0][0].version - 0.5, *(column[-1].version + 0.5 for column in columns)] if columns else []
    grid = np.array([np.mean([row.coverage for row in column], axis=0) for column in columns]).T
    return edges, grid


def coverage_of_blocks(run: Run) -> Figure:
    edges, grid = coverage_grid(run.rounds)
    figure, axes = new_figure(HALF, 3.0)
    heat = ListedColormap([colour(f"heat{step}") for step in range(_HEAT_STEPS)])
    blocks = grid.shape[0]
    mesh = axes.pcolormesh(
        edges, np.arange(blocks + 1) + 0.5, grid, cmap=heat, vmin=0, vmax=1, edgecolors=colour("surface"), linewidth=0.4
    )
    axes.set_ylim(blocks + 0.5, 0.5)
    axes.yaxis.set_major_locator(ticks(min(blocks, 12), integer=True))
    axes.xaxis.set_major_locator(ticks(9, integer=True))
    axes.grid(visible=False)
    axes.set_ylabel("block (1 = next to the input)")
    axes.set_xlabel("version formed")
    bar = figure.colorbar(mesh, ax=axes, location="top", aspect=46, pad=0.02, ticks=[0, 1 / 3, 2 / 3, 1])
    bar.outline.set_visible(False)
    bar.ax.set_xticklabels(["0 %", "33 %", "67 %", "100 % of the entries"])
    bar.ax.get_xticklabels()[0].set_horizontalalignment("left")
    bar.ax.get_xticklabels()[-1].set_horizontalalignment("right")
    bar.ax.tick_params(length=0, pad=2)
    return figure


def bytes_over_time(run: Run, height: float) -> Figure:
    unit = longest_unit([run])
    figure, axes = new_figure(HALF, height)
    x = [row.virtual_s / unit.seconds for row in run.rounds]
    axes.plot(x, [row.bytes_down for row in run.rounds], color=colour("received"), label="down, to the boards")
    axes.plot(
        x,
        [row.bytes_up for row in run.rounds],
        color=colour("sent"),
        linestyle=(0, (5, 1.4)),
        label="up, to the server",
    )
    axes.set_xlabel(f"{run.clock} ({unit.name})")
    from_zero(axes)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(ticks(8))
    axes.yaxis.set_major_formatter(quantities("B"))
    legend(axes, columns=2)
    return figure
