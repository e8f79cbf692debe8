"""When a board is there: on and off, from a trace in a CSV file or from a seeded daily rhythm.

Both answer one question, ``window(time_s)``: the interval [start, end) of being on that holds ``time_s``, or the next
one after it; None when there is none any more. An answer is a function of the time alone, so nothing must be saved.
"""

from __future__ import annotations

import bisect
import csv
import math
from dataclasses import dataclass
from pathlib import Path

from cosp.errors import ConfigError
from cosp.seeds import numpy_stream

Window = tuple[float, float]

COLUMNS = ["client", "start_s", "end_s"]

DAY_S = 86_400.0
HOUR_S = 3_600.0


@dataclass(frozen=True, kw_only=True)
class Trace:
    """Intervals of being on, sorted and apart; with a period they come again and again."""

    windows: tuple[Window, ...]
    period_s: float | None = None

    def window(self, time_s: float) -> Window | None:
        if self.period_s is None:
            return next((window for window in self.windows[self._place(time_s) :] if window[1] > time_s), None)
        joined = self.windows[0][0] == 0.0 and self.windows[-1][1] == self.period_s  # on across the seam
        if joined and len(self.windows) == 1:
            return 0.0, math.inf
        turn = math.floor(time_s / self.period_s)
        place = self._place(time_s - turn * self.period_s)
        while True:
            turn, place = turn + place // len(self.windows), place % len(self.windows)
            start_s, end_s = (edge_s + turn * self.period_s for edge_s in self.windows[place])
            if joined and place == len(self.windows) - 1:
                end_s = self.windows[0][1] + (turn + 1) * self.period_s
            if end_s > time_s:
                return start_s, end_s
            place += 1

    def _place(self, time_s: float) -> int:
        """Return the index of the first window that ends after ``time_s``."""
        return bisect.bisect_right(self.windows, time_s, key=lambda window: window[1])


@dataclass(frozen=True, kw_only=True)
class Diurnal:
    """On once a day for ``on_h`` hours from about ``start_h``, hours since the run began.

    The client's own habit shifts that by a normal draw of deviation ``spread_h``, each day by a further one of
    deviation ``jitter_h``; a shift is at most 12 hours.
    """

    seed: int
    client: int
    on_h: float
    start_h: float
    spread_h: float
    jitter_h: float

    def __post_init__(self) -> None:
        for name, rule, kept in (
            ("on_h", "must be in (0, 24)", 0 < self.on_h < 24),
            ("start_h", "must be in [0, 24)", 0 <= self.start_h < 24),
            ("spread_h", "must be >= 0", self.spread_h >= 0),
            ("jitter_h", "must be >= 0", self.jitter_h >= 0),
        ):
            if not kept:
                raise ValueError(f"diurnal: {name} {rule}, got {getattr(self, name)}")

    def window(self, time_s: float) -> Window | None:
        longest_s = (self.start_h + 12 + 24) * HOUR_S  # a window of day 0 has ended by then
        day = math.floor((time_s - longest_s) / DAY_S)
        start_s, end_s = self._of_day(day)
        while True:
            day += 1
            next_start_s, next_end_s = self._of_day(day)
            if next_start_s <= end_s:  # no pause between the two days
                end_s = max(end_s, next_end_s)
            elif end_s > time_s:
                return start_s, end_s
            else:
                start_s, end_s = next_start_s, next_end_s

    def _of_day(self, day: int) -> Window:
        habit = self._draw("habit") * self.spread_h if self.spread_h else 0.0
        today = self._draw(day) * self.jitter_h if self.jitter_h else 0.0
        shift_h = min(12.0, max(-12.0, habit + today))
        start_s = day * DAY_S + (self.start_h + shift_h) * HOUR_S
        return start_s, start_s + self.on_h * HOUR_S

    def _draw(self, what: object) -> float:
        return float(numpy_stream(self.seed, "availability", self.client, what).standard_normal())


Availability = Trace | Diurnal


def read_trace(path: Path) -> dict[int, tuple[Window, ...]]:
    """Return each client's windows from a CSV file ``client,start_s,end_s``; ConfigError names file, line and rule.

    Semicolons and tabs part cells as well as commas do; beside semicolons numbers may have decimal commas.
    """
    found: dict[int, list[Window]] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:  # spreadsheets mark what they write
            head = file.readline()
            separator = next((mark for mark in ";\t" if mark in head), ",")
            names = _cells(next(csv.reader([head], delimiter=separator), []))
            if names != COLUMNS:
                raise ConfigError(f"{path}:1: the columns must be client,start_s,end_s, got {names}")
            rows = csv.reader(file, delimiter=separator)
            for cells in map(_cells, rows):
                if cells:
                    client, window = _interval(cells, separator, where=f"{path}:{1 + rows.line_num}")
                    found.setdefault(client, []).append(window)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); check the path") from None
    return {client: _joined(windows) for client, windows in found.items()}


def _cells(row: list[str]) -> list[str]:
    """Return a row's cells without blanks and without the empty ones at its end, which spreadsheets add."""
    cells = [cell.strip() for cell in row]
    while cells and not cells[-1]:
        cells.pop()
    return cells


def _interval(cells: list[str], separator: str, *, where: str) -> tuple[int, Window]:
    """Return a client and when it is on; beside semicolons a comma is a decimal point."""
    got = separator.join(cells)
    try:
        client_text, start_text, end_text = [cell.replace(",", ".") for cell in cells] if separator == ";" else cells
        client, start_s, end_s = int(client_text), float(start_text), float(end_text)
    except ValueError:
        raise ConfigError(f"{where}: must be a whole number and two numbers, got {got}") from None
    if not (client >= 0 and 0 <= start_s < end_s < math.inf):
        raise ConfigError(f"{where}: must be client >= 0 and 0 <= start_s < end_s, got {client},{start_s:g},{end_s:g}")
    return client, (start_s, end_s)


def _joined(windows: list[Window]) -> tuple[Window, ...]:
    """Sort intervals and join those that touch or overlap."""
    joined: list[Window] = []
    for start_s, end_s in sorted(windows):
        if joined and start_s <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], end_s)
        else:
            joined.append((start_s, end_s))
    return tuple(joined)
