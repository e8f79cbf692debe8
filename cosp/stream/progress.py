"""What a stream looks like in a terminal: how far it is and when it ends, and a table at the end."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

from cosp.console import bytes_text, seconds
from cosp.stream.tally import Tally

Row = dict[str, Any]


class StreamProgress(AbstractContextManager["StreamProgress"]):
    """A bar over the stream's seconds that reads its rows; sets that are taken back or refused are a line each.

    On real boards all news are a line, as a stream lasts for days.
    """

    def __init__(self, console: Console, until_s: float, *, on_boards: bool = False) -> None:
        whole = Column(no_wrap=True)
        self._progress = Progress(
            SpinnerColumn(),
            BarColumn(bar_width=10),
            TaskProgressColumn(table_column=whole),
            TextColumn("{task.fields[status]}"),
            TextColumn("left"),
            TimeRemainingColumn(table_column=Column(no_wrap=True)),
            console=console,
            refresh_per_second=4,
        )
        self._until_s, self._on_boards = until_s, on_boards
        self._bar = self._progress.add_task("stream", total=until_s, status="reading the run, laying out the stream")
        self._tally = Tally()

    def on_row(self, row: Row) -> None:
        """Show what a row says."""
        self._tally.add(row)
        if self._on_boards and (line := line_of(row)) is not None:
            self._progress.console.print(line, highlight=False, soft_wrap=True, markup=False)
        elif row["kind"] == "rollback":
            self._progress.console.print(
                f"set {row['version']} taken back after {seconds(row['virtual_s'])}: boards are less sure with it",
                style="yellow", highlight=False,
            )  # fmt: skip
        if row["kind"] == "window":
            share = self._tally.windows[row["window"]].share
            known = "no labels" if share is None else f"accuracy {share:.3f}"
            when = f"{'' if self._on_boards else 'virtual '}{seconds(row['virtual_s'])}"
            parts = [when, known, f"{self._tally.counts['set']} sets"]
            done_s = min(row["to_s"], self._until_s)
            self._progress.update(self._bar, completed=done_s, status="  ".join(parts))

    def __enter__(self) -> StreamProgress:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not self._progress.tasks[self._bar].completed:
            self._progress.live.transient = True  # nothing was done yet: the error alone is to be read
            self._progress.live.stop()
        else:
            self._progress.stop()


def line_of(row: Row) -> str | None:
    """Return a row of a stream on real boards as a line for people; None for rows that are not news."""
    kind = row["kind"]
    if kind == "client":
        return f"client {row['client']} ({row['board']}) serves"
    if kind == "kept_out":
        return f"node {row['node']} is kept out: {row['detail']}"
    if kind == "failed":
        return f"client {row['client']} failed: {row['reason']}: {_last_line(row['detail'])}"
    if kind == "ban":
        return f"client {row['client']} (node {row['node']}) banned: {row['lies']} lies in a row"
    if kind == "clusters":
        return f"clusters of boards that drift alike after {seconds(row['virtual_s'])}: {_clusters(row['groups'])}"
    if kind == "set":
        return f"set {row['version']} is there after {seconds(row['virtual_s'])}"
    if kind in ("kept", "rollback"):
        what = "is kept" if kind == "kept" else f"is taken back to {row['to']}"
        return f"set {row['version']} {what} after {seconds(row['virtual_s'])}"
    if kind == "download":
        how = f"the whole of set {row['version']}" if row["base"] is None else f"set {row['version']} by {row['way']}"
        return f"client {row['client']} was sent {how}: {bytes_text(row['bytes_down'])}{_lost(row)}"
    return None


def _clusters(groups: Sequence[tuple[int, Sequence[int]]]) -> str:
    return "; ".join(", ".join(map(str, clients)) for _, clients in groups)


def _last_line(detail: str) -> str:
    return (detail.replace("\\n", "\n").strip().splitlines() or [""])[-1]


def _lost(row: Row) -> str:
    return "" if row["lost"] is None else f", and does not have what it changes ({row['lost']})"


def summary_table(metrics: Row, *, on_boards: bool = False) -> Table:
    """Return the table that a stream ends with; ``on_boards``: real ones, whose time is no virtual one."""
    table = Table(title="Result", show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column(justify="right")
    for name, value in summary(metrics):
        table.add_row(name.replace("virtual time", "time") if on_boards else name, value)
    return table


def summary(metrics: Row) -> list[tuple[str, str]]:
    """Return (name, value) pairs worth reading at the end."""
    clean = metrics["clean_accuracy"]
    return [
        ("accuracy on the stream", _share(metrics["stream_accuracy"])),
        ("worst window, worst board", f"{_share(metrics['worst_window_accuracy'])}  "
                                      f"{_share(metrics['worst_board_accuracy'])}"),
        ("clean accuracy before, after", f"{_share(clean['before'])}  {_share(clean['after'])}"),
        ("samples, sent to the server", f"{metrics['samples']:,}, {metrics['uploaded_share']:.1%}"),
        ("from / to boards", f"{bytes_text(metrics['bytes_up'])} / {bytes_text(metrics['bytes_down'])}"),
        ("energy of the fleet, beside idling", f"{metrics['energy_j']:.0f} J"),
        ("sets, refused, taken back", f"{metrics['sets']}, {metrics['refused']}, {metrics['rollbacks']}"),
        ("messages lost", str(metrics["lost"])),
        ("virtual time", seconds(metrics["virtual_time_s"])),
        ("wall time, the server's part", f"{seconds(metrics['wall_time_s'])}, {seconds(metrics['wall_server_s'])}"),
    ]  # fmt: skip


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
