"""Who received, computed, sent and waited, in virtual time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, PathPatch
from matplotlib.path import Path

from cosp.report.figure_accuracy import board_height, longest_unit
from cosp.report.rows import Client, Run
from cosp.report.spans import PHASES, UNDER_WAY, WAITED, Span, clip, shares_of_time, spans_of
from cosp.report.style import HALF, WIDE, colour, from_zero, legend, new_figure, percents, rows_of, ticks
from cosp.report.units import time_unit

_HEIGHT = 0.66  # of a bar, in rows
_PHASE_COLOURS = {phase: phase for phase in PHASES} | {"summed": "scored", WAITED: "track", UNDER_WAY: "underway"}
TASKS_IN_VIEW = 60  # of the busiest board: more would be thinner than a reader can tell apart


def window_s(run: Run) -> float:
    """How far the timeline reaches: until the busiest board has finished ``TASKS_IN_VIEW`` tasks, or the whole run."""
    arrived: dict[int, list[float]] = {}
    for row in run.arrivals:
        arrived.setdefault(row.client, []).append(row.arrived_s)
    full = (sorted(times)[TASKS_IN_VIEW - 1] for times in arrived.values() if len(times) >= TASKS_IN_VIEW)
    return min(run.virtual_s, min(full, default=run.virtual_s))


def timeline(run: Run, clients: Sequence[Client]) -> Figure:
    """A row a client from the start to ``window_s(run)``; thin vertical lines are closed rounds, crosses refusals."""
    until_s = window_s(run)
    unit = time_unit(until_s)
    row_of = {client.client: row for row, client in enumerate(clients)}
    figure, axes = new_figure(WIDE, board_height(len(clients)) + 0.1)
    axes.barh(range(len(clients)), until_s / unit.seconds, height=_HEIGHT, color=colour("track"))
    shown = [span for span in clip(spans_of(run), until_s) if span.client in row_of]
    for phase in PHASES:
        _bars(
            axes, [span for span in shown if span.phase == phase], row_of, unit.seconds, colour(_PHASE_COLOURS[phase])
        )
    closed = [row.virtual_s / unit.seconds for row in run.rounds if 0 < row.virtual_s <= until_s]
    axes.vlines(closed, -0.6, len(clients) - 0.4, color=colour("muted"), linewidth=0.45, alpha=0.55)
    refused = [a for a in run.arrivals if not a.accepted and a.arrived_s <= until_s and a.client in row_of]
    _crosses(axes, [row.arrived_s / unit.seconds for row in refused], [row_of[row.client] for row in refused])
    rows_of(axes, [client.title for client in clients])
    axes.set_xlim(0, until_s / unit.seconds)
    axes.set_xlabel(f"{run.clock} ({unit.name})")
    axes.xaxis.set_major_locator(ticks(14))
    axes.grid(visible=False)
    _phase_legend(axes, {span.phase for span in shown}, run, refused=bool(refused))
    return figure


def _bars(axes: Axes, spans: Iterable[Span], row_of: dict[int, int], seconds: float, fill: str) -> None:
    """All bars of one colour as a single path: thousands of tasks stay a small file."""
    corners = [
        [(s.start_s / seconds, row_of[s.client] - _HEIGHT / 2), (s.end_s / seconds, row_of[s.client] - _HEIGHT / 2),
         (s.end_s / seconds, row_of[s.client] + _HEIGHT / 2), (s.start_s / seconds, row_of[s.client] + _HEIGHT / 2)]
        for s in spans
    ]  # fmt: skip
    if corners:
        path = Path.make_compound_path_from_polys(np.array(corners))
        path.should_simplify = False
        axes.add_patch(PathPatch(path, facecolor=fill))


def _crosses(axes: Axes, x: Sequence[float], y: Sequence[float]) -> None:
    axes.scatter(x, y, marker="x", s=24, linewidths=3.4, c=colour("surface"), zorder=4)  # a rim, to stand out on a bar
    axes.scatter(x, y, marker="x", s=20, linewidths=1.5, c=colour("refused"), zorder=5, label="refused")


def _shown(phase: str, run: Run) -> str:
    """Name a phase: on real boards all that was not compute, Flower's own doings above all, counts as receiving."""
    return "Flower, links" if run.measured and phase == "received" else phase


def _phase_legend(axes: Axes, present: set[str], run: Run, *, refused: bool) -> None:
    marks = axes.get_legend_handles_labels()[0] if refused else []
    names = [phase for phase in PHASES if phase in present]
    handles = [Patch(facecolor=colour(_PHASE_COLOURS[name]), label=_shown(name, run)) for name in (*names, WAITED)]
    legend(axes, columns=6, rows=True, handles=[*handles, *marks])


def time_of_boards(run: Run, clients: Sequence[Client]) -> Figure:
    """What share of the whole run each client spent in each phase, as stacked bars."""
    shares = shares_of_time(run)
    figure, axes = new_figure(HALF, board_height(len(clients)))
    left = np.zeros(len(clients))
    for phase in (*PHASES, WAITED):
        width = np.array([shares[client.client][phase] for client in clients])
        if phase not in ("scored", "summed", UNDER_WAY) or width.any():
            axes.barh(
                range(len(clients)),
                width,
                left=left,
                height=_HEIGHT,
                color=colour(_PHASE_COLOURS[phase]),
                label=_shown(phase, run),
            )
        left += width
    rows_of(axes, [client.title for client in clients])
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(percents())
    axes.set_xlabel("share of the run")
    axes.grid(visible=False)
    legend(axes, columns=3, rows=True)
    return figure


def utilisation_over_time(run: Run, height: float) -> Figure:
    unit = longest_unit([run])
    figure, axes = new_figure(HALF, height)
    rounds = [row for row in run.rounds if row.virtual_s > 0]
    x, y = [row.virtual_s / unit.seconds for row in rounds], [row.utilisation for row in rounds]
    axes.fill_between(x, y, color=colour("trained"), alpha=0.1, linewidth=0)
    axes.plot(x, y, color=colour("trained"), clip_on=False)
    if rounds:
        axes.annotate(f"{100 * y[-1]:.0f} %", (x[-1], y[-1]), (-2, 6), textcoords="offset points", ha="right")
    axes.set_ylim(0, 1)
    from_zero(axes)
    axes.xaxis.set_major_locator(ticks(8))
    axes.yaxis.set_major_formatter(percents())
    axes.set_xlabel(f"{run.clock} ({unit.name})")
    return figure
