"""Which figures a page holds, in which order, each with its title and one sentence that says how to read it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.figure import Figure

from cosp.report.about import limit_text, measured_text
from cosp.report.figure_accuracy import (
    accuracy_against_rounds,
    accuracy_against_time,
    accuracy_of_exits,
    board_height,
    local_accuracy,
    longest_unit,
)
from cosp.report.figure_boards import bytes_of_boards, energy_of_boards, memory_of_boards
from cosp.report.figure_classes import class_figure
from cosp.report.figure_rounds import bytes_over_time, coverage_of_blocks, staleness_histogram
from cosp.report.figure_timeline import time_of_boards, timeline, utilisation_over_time, window_s
from cosp.report.rows import Run
from cosp.report.style import svg
from cosp.report.tallies import BoardTotals, board_totals, sample_clients
from cosp.report.units import duration

MOST_BOARDS = 40  # rows of a figure that are still easy to read


@dataclass(frozen=True, kw_only=True)
class Plot:
    id: str
    title: str
    caption: str
    svg: Markup | None  # None: the run holds nothing to draw
    wide: bool = False


@dataclass(frozen=True, kw_only=True)
class Section:
    title: str
    plots: tuple[Plot, ...]


def _plot(id: str, title: str, caption: str, draw: Callable[[], Figure] | None, *, wide: bool = False) -> Plot:
    drawn = Markup(svg(draw(), id)) if draw else None
    return Plot(id=id, title=title, caption=caption, svg=drawn, wide=wide)


def accuracy_section(runs: Sequence[Run], labels: Sequence[str]) -> Section:
    """One run shows all its exits; several show their deepest exits, one line a run."""
    one = len(runs) == 1
    lines = "Darker blue is a deeper exit, rings are the exit chosen on validation data." if one else "One line a run."
    share = f"Share of the test set that {'each exit gets' if one else 'the deepest exit gets'} right"
    dots = "values at the end of training" if one else "one dot a run at the end of training"
    some = any(run.evaluated for run in runs)
    unit = longest_unit(runs).name
    return Section(
        title="Accuracy",
        plots=(
            _plot(
                "accuracy-rounds",
                "Accuracy against rounds",
                f"{share} after each merge; up is better. {lines}",
                (lambda: accuracy_against_rounds(runs, labels)) if some else None,
            ),
            _plot(
                "accuracy-time",
                f"Accuracy against {'' if any(run.measured for run in runs) else 'virtual '}{unit}",
                f"The same on the fleet's own clock: steeper is faster. {lines}",
                (lambda: accuracy_against_time(runs, labels)) if some else None,
            ),
            _plot(
                "accuracy-exits",
                "Accuracy of each exit",
                f"What a deeper exit gains: {dots}, right is better.",
                (lambda: accuracy_of_exits(runs, labels)) if some else None,
                wide=True,
            ),
        ),
    )


def run_sections(run: Run, suffix: str = "") -> list[Section]:
    """The figures about the boards of one run; ``suffix`` keeps their ids apart where a page holds several runs."""
    totals = board_totals(run)
    shown = [totals[i] for i in sample_clients(len(totals), MOST_BOARDS)]
    note = f" Shown are {len(shown)} of {len(totals)} clients, evenly spread." if len(shown) < len(totals) else ""
    return [
        _time_section(run, shown, note, suffix),
        _merge_section(run, suffix),
        _cost_section(run, shown, note, suffix),
        _data_section(run, shown, note, suffix),
    ]


def _time_section(run: Run, shown: Sequence[BoardTotals], note: str, suffix: str) -> Section:
    clients = [totals.client for totals in shown]
    until_s = window_s(run)
    whole = (
        "" if until_s >= run.virtual_s else f" Shown are the first {duration(until_s)} of {duration(run.virtual_s)}."
    )
    unknown = "; what was under way at the end is not known and looks like waiting" if run.under_way is None else ""
    some = bool(run.arrivals) and run.virtual_s > 0
    return Section(
        title="Who did what when",
        plots=(
            _plot(
                f"timeline{suffix}",
                "Timeline of the boards",
                "One row a board: pale stretches are waiting, thin vertical lines are closed rounds, "
                f"crosses are refused updates{unknown}.{whole}{note}",
                (lambda: timeline(run, clients)) if some else None,
                wide=True,
            ),
            _plot(
                f"board-time{suffix}",
                "Where each board's time went",
                f"The less pale a bar, the less that board waited over the whole run.{note}",
                (lambda: time_of_boards(run, clients)) if some else None,
            ),
            _plot(
                f"utilisation{suffix}",
                "Utilisation of the fleet",
                "Share of all boards' time so far spent computing or transferring; "
                "100 % would mean that no board ever waits.",
                (lambda: utilisation_over_time(run, max(2.4, board_height(len(clients))))) if some else None,
            ),
        ),
    )


def _merge_section(run: Run, suffix: str) -> Section:
    trained = any(row.task == "train" for row in run.arrivals)
    merged = any(row.version > 0 and row.coverage for row in run.rounds)
    return Section(
        title="What was merged",
        plots=(
            _plot(
                f"staleness{suffix}",
                "Staleness of the updates",
                "Bars to the left are fresh updates; "
                "bars to the right started from a model that was several versions old.",
                (lambda: staleness_histogram(run)) if trained else None,
            ),
            _plot(
                f"coverage{suffix}",
                "Coverage of each block",
                "The darker a cell, the larger the share of that block's entries "
                "that at least one update of that version trained.",
                (lambda: coverage_of_blocks(run)) if merged else None,
            ),
        ),
    )


def _cost_section(run: Run, shown: Sequence[BoardTotals], note: str, suffix: str) -> Section:
    some = any(totals.tasks for totals in shown)
    height = max(2.4, board_height(len(shown)))
    return Section(
        title="What it cost",
        plots=(
            _plot(
                f"bytes{suffix}",
                "Bytes over time",
                "Traffic of the whole fleet so far; the steeper, the busier the links.",
                (lambda: bytes_over_time(run, height)) if run.rounds else None,
            ),
            _plot(
                f"bytes-boards{suffix}",
                "Bytes of each board",
                f"What each board received and sent in the whole run.{note}",
                (lambda: bytes_of_boards(shown)) if some else None,
            ),
            _plot(
                f"energy{suffix}",
                "Energy of each board",
                f"What its tasks drew in the whole run; a short bar is frugal.{note}",
                (lambda: energy_of_boards(shown)) if some else None,
            ),
            _plot(
                f"memory{suffix}",
                "Peak memory of each board",
                f"The dot must stay left of the mark, {limit_text(run)}; "
                f"between them lies what is left free (log axis).{measured_text(run)}{note}",
                (lambda: memory_of_boards(shown)) if some else None,
            ),
        ),
    )


def _data_section(run: Run, shown: Sequence[BoardTotals], note: str, suffix: str) -> Section:
    counts = [totals.client.class_counts for totals in shown]
    names = [totals.client.title for totals in shown]
    measured = any(totals.trained is not None for totals in shown)
    return Section(
        title="Clients and their data",
        plots=(
            _plot(
                f"classes{suffix}",
                "Classes of each client",
                f"Bar length is how many training samples a client holds, colours are their classes.{note}",
                (lambda: class_figure(counts, names, run.header.classes)) if any(map(any, counts)) else None,
                wide=True,
            ),
            _plot(
                f"local-accuracy{suffix}",
                "Local accuracy of each client",
                "From the open dot (submodel as received) to the full one (after local training), "
                f"in its last task.{note}",
                (lambda: local_accuracy(shown)) if measured else None,
                wide=True,
            ),
        ),
    )
