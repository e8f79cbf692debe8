"""The report's figures as PNG files, for trackers that show images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from cosp.report import Run
from cosp.report.figure_accuracy import accuracy_against_rounds, accuracy_against_time
from cosp.report.figure_boards import energy_of_boards, memory_of_boards
from cosp.report.figure_rounds import coverage_of_blocks, staleness_histogram
from cosp.report.figure_timeline import timeline
from cosp.report.plots import MOST_BOARDS
from cosp.report.style import colour, house_style
from cosp.report.tallies import board_totals, sample_clients

DPI = 130


def draw_pictures(run: Run, folder: Path) -> dict[str, Path]:
    """Draw what the run has rows for; returns name -> file."""
    found = {}
    with house_style():
        for name, draw in _figures(run).items():
            found[name] = folder / f"{name}.png"
            draw().savefig(found[name], dpi=DPI, facecolor=colour("surface"), metadata={"Software": None})
    return found


def _figures(run: Run) -> dict[str, Callable[[], Figure]]:
    totals = board_totals(run)
    shown = [totals[i] for i in sample_clients(len(totals), MOST_BOARDS)]
    found: dict[str, Callable[[], Figure]] = {}
    if run.evaluated:
        found["accuracy-rounds"] = lambda: accuracy_against_rounds([run], [run.header.name])
        found["accuracy-time"] = lambda: accuracy_against_time([run], [run.header.name])
    if run.arrivals and run.virtual_s > 0:
        found["timeline"] = lambda: timeline(run, [board.client for board in shown])
    if any(row.task == "train" for row in run.arrivals):
        found["staleness"] = lambda: staleness_histogram(run)
    if any(row.version > 0 and row.coverage for row in run.rounds):
        found["coverage"] = lambda: coverage_of_blocks(run)
    if any(board.tasks for board in shown):
        found["energy"] = lambda: energy_of_boards(shown)
        found["memory"] = lambda: memory_of_boards(shown)
    return found
