"""What a run looks like in a terminal: live progress with an ETA on stderr, a summary table at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column, Table

Row = dict[str, Any]

UNITS = ((3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"))


def seconds(value_s: float) -> str:
    """Return a duration in the unit that suits it: ``1.5 h``, ``12.0 s``, ``340.0 ms``."""
    for size, unit in UNITS:
        if value_s >= size:
            return f"{value_s / size:.1f} {unit}"
    return f"{value_s * 1e3:.1g} ms" if value_s > 1e-5 else "0 s"


def bytes_text(value: float) -> str:
    """Return an amount of data with a decimal prefix: ``1.2 MB``."""
    for size, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= size:
            return f"{value / size:.1f} {unit}"
    return f"{value:.0f} B"


def calibration_lines(boards: Iterable[tuple[str, str]]) -> list[str]:
    """Return one line for each way in which speeds are known; ``boards`` are (name, calibration), repeats allowed."""
    found: dict[str, list[str]] = {}
    for name, calibration in dict.fromkeys(boards):
        found.setdefault(calibration, []).append(name)
    return [f"{how}: {'all' if len(found) == 1 else ', '.join(names)}" for how, names in found.items()]


def line_of(row: Row) -> str | None:
    """Return a row of a run as a line for people; None for rows that are not news."""
    kind = row["kind"]
    if kind == "round":
        accuracy = f", accuracy {row['evaluation']['accuracy'][-1]:.3f}" if row["evaluation"] else ""
        return f"version {row['version']} after {seconds(row['virtual_s'])}{accuracy}"
    if kind == "arrival" and not row["accepted"]:
        return f"client {row['client']} refused: {row['reason']} {row.get('detail', '')}"
    if kind == "refused":
        whose = "the merge is" if row["node"] is None else f"node {row['node']}"
        return f"{whose} refused: {row['reason']}: {row['detail']}"
    if kind == "ban":
        return f"client {row['client']} (node {row['node']}) banned: {row['lies']} lies in a row"
    if kind == "client":
        return "; ".join([*_claim(row), *_limit(row)]) or None
    return None


def _claim(row: Row) -> list[str]:
    counted = {name: row[name] for name in row.get("claimed", {})}
    return [f"client {row['client']} claims {row['claimed']}, counted as {counted}"] if counted else []


def _limit(row: Row) -> list[str]:
    """Say by which limit of its own a board gets less than the fleet file plans."""
    planned = row.get("planned", {})
    shown = {
        "keep": lambda keep: "what its memory holds" if keep is None else f"{keep:g} of the model",
        "memory_bytes": bytes_text,
    }
    whose = f"client {row['client']} ({row['board']})"
    return [
        f"{whose} takes {shown[name](row[name])} by its own limit, the fleet file plans {shown[name](value)}"
        for name, value in planned.items()
    ]


class _WithTable(Progress):
    """A progress bar with something below it, which is made anew whenever it is drawn."""

    below: Callable[[], RenderableType] | None = None

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        if self.below is not None:
            yield self.below()


class RunProgress(AbstractContextManager["RunProgress"]):
    """A progress bar over model versions, or seconds where they end the run, that reads the run's rows.

    Of a run ``on_boards`` every news is a line, and without a terminal each version is one, too. ``below`` makes what
    stands below the bar.
    """

    def __init__(
        self,
        console: Console,
        versions: int | None,
        until_s: float | None = None,
        *,
        on_boards: bool = False,
        below: Callable[[], RenderableType] | None = None,
    ) -> None:
        whole = Column(no_wrap=True)  # where the line is too long, the bar gives way
        columns = (
            SpinnerColumn(),
            BarColumn(bar_width=10),
            MofNCompleteColumn(table_column=whole) if until_s is None else TaskProgressColumn(table_column=whole),
            TextColumn("{task.fields[status]}"),
            TextColumn("left"),
            TimeRemainingColumn(table_column=Column(no_wrap=True)),
        )
        self._progress = _WithTable(*columns, console=console, refresh_per_second=4 if below is None else 2)
        self._done = "version" if until_s is None else "virtual_s"
        total = versions if until_s is None else until_s
        first = "waiting for boards" if on_boards else "reading data, starting workers"
        self._bar = self._progress.add_task("run", total=total, status=first)
        self._accuracy = ""
        self._staleness: list[int] = []
        self._on_boards = on_boards
        self._by_line = on_boards and not console.is_terminal
        self._progress.below = below

    def on_row(self, row: Row) -> None:
        """Show what a row says."""
        if row["kind"] == "arrival" and row["task"] == "train" and row["accepted"]:
            self._staleness.append(row["staleness"])
        if self._on_boards and (row["kind"] != "round" or self._by_line) and (line := line_of(row)):
            self._progress.console.print(line, highlight=False, soft_wrap=True)
        elif not self._on_boards and row["kind"] == "arrival" and not row["accepted"]:
            self._progress.console.print(
                f"client {row['client']} refused: {row['reason']} {row.get('detail', '')[:160]}", style="yellow"
            )
        if row["kind"] == "round":
            self._show_round(row)

    def _show_round(self, row: Row) -> None:
        if row["evaluation"]:
            self._accuracy = f"accuracy {row['evaluation']['accuracy'][-1]:.3f}"
        recent = self._staleness[-50:]
        stale = f"staleness {sum(recent) / len(recent):.1f}" if recent else ""
        clock = "after" if self._on_boards else "virtual"
        parts = [f"{clock} {seconds(row['virtual_s'])}", self._accuracy, stale]
        self._progress.update(self._bar, completed=row[self._done], status="  ".join(filter(None, parts)))

    def __enter__(self) -> RunProgress:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or self._progress.tasks[self._bar].completed:
            self._progress.stop()
        else:  # nothing was done yet: the error alone is to be read
            self._progress.live.transient = True
            self._progress.live.stop()


def _energy(energy_j: float, *, on_boards: bool) -> str:
    return "not measured" if on_boards and not energy_j else f"{energy_j:.0f} J"


def summary_table(metrics: Row, *, on_boards: bool = False) -> Table:
    """Return the table that a run ends with."""
    table = Table(title="Result", show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column(justify="right")
    for name, value in summary(metrics, on_boards=on_boards):
        table.add_row(name, value)
    return table


def summary(metrics: Row, *, on_boards: bool = False) -> list[tuple[str, str]]:
    """Return (name, value) pairs worth reading at the end of a run; its time is virtual unless it was ``on_boards``."""
    rows: list[tuple[str, str]] = []
    final = metrics["final"]
    if final:
        found, best = final["global"], metrics["best"]["global"]
        exits = "  ".join(f"{accuracy:.3f}" for accuracy in found["accuracy"])
        blocks = ", ".join(map(str, metrics["exits"]))
        rows += [
            ("test accuracy, deepest exit", f"{found['accuracy'][-1]:.3f}"),
            (f"test accuracy, exits after blocks {blocks}", exits),
            ("test accuracy, mean of exits", f"{found['mean_accuracy']:.3f}"),
            (f"test accuracy, chosen exit {_after(metrics, found)}", f"{found['chosen_accuracy']:.3f}"),
            (f"best version by validation {_after(metrics, best)}", f"{best['chosen_accuracy']:.3f}"),
        ]
        if final["local"]:
            local = final["local"]
            rows.append(
                ("clients' own accuracy, mean (worst decile)", f"{local['mean']:.3f} ({local['worst_decile']:.3f})")
            )
    return [
        *rows,
        ("model versions", str(metrics["rounds"])),
        ("time on the boards" if on_boards else "virtual time", seconds(metrics["virtual_time_s"])),
        ("wall time", seconds(metrics["wall_time_s"])),
        ("utilisation of the fleet", f"{metrics['utilisation']:.0%}"),
        ("sent to / from boards", f"{bytes_text(metrics['bytes_down'])} / {bytes_text(metrics['bytes_up'])}"),
        ("energy of the fleet", _energy(metrics["energy_j"], on_boards=on_boards)),
        ("refused updates", _counts(metrics["refused"])),
        *([("boards with no energy left", str(len(empty)))] if (empty := metrics.get("empty_batteries")) else []),
        *([("boards that sit out", str(len(out)))] if (out := metrics.get("sitting_out")) else []),
        *([("ended early", metrics["ended_early"])] if metrics.get("ended_early") else []),
    ]


def _after(metrics: Row, scores: Row) -> str:
    """Say after which block the chosen exit stands; the files number exits from 0."""
    return f"(after block {metrics['exits'][scores['chosen_exit']]})"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"
