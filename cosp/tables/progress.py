"""What a table looks like in a terminal while its cells run: one bar over all of them, with an ETA."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

from cosp.console import seconds
from cosp.tables.running import News


class CellsProgress(AbstractContextManager["CellsProgress"]):
    """A bar over ``total`` cells; a line for each that has ended."""

    def __init__(self, console: Console, total: int, *, jobs: int) -> None:
        columns = (SpinnerColumn(), BarColumn(bar_width=20), TextColumn("{task.fields[status]}"))
        self._progress = Progress(*columns, console=console, refresh_per_second=2)
        self._bar = self._progress.add_task("cells", total=total, status=f"{total} runs, {jobs} at a time")
        self._shares: dict[str, float] = {}
        self._ended = 0
        self._total = total
        self._started = time.monotonic()

    def hear(self, news: News) -> None:
        """Show what is told of a cell."""
        self._shares[news.cell.name] = news.share
        done, elapsed_s = sum(self._shares.values()), time.monotonic() - self._started
        if news.error is not None:
            self._ended += 1
            text = f"failed: {news.error.strip().splitlines()[-1]}" if news.error else "done"
            line = f"[{self._ended}/{self._total}] {news.cell.name} {text}, after {seconds(elapsed_s)}"
            self._progress.console.print(line, markup=False, style="red" if news.error else None, soft_wrap=True)
        left = f", {seconds(elapsed_s / done * (self._total - done))} left" if done else ""
        self._progress.update(self._bar, completed=done, status=f"{self._ended} of {self._total} runs ended{left}")

    def __enter__(self) -> CellsProgress:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
