"""What is known of a table's cells: from ``cells.csv`` and ``points.csv``, and from runs that have ended since.

The two files are enough to build every table and figure, so they can be kept without the runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from cosp.files import make_folder
from cosp.tables.outcome import Outcome, Point, read_origin, read_outcome, read_points
from cosp.tables.plan import Cell, TablePlan
from cosp.tables.running import ORIGIN, check_folder, finished
from cosp.tables.store import read_rows, write_rows

RUNS = "runs"
CELLS, POINTS = "cells.csv", "points.csv"


class Results:
    """The results in ``folder``; its runs lie in ``folder/runs``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.points: dict[str, list[Point]] = {}
        for point in read_rows(folder / POINTS, Point):
            self.points.setdefault(point.cell, []).append(point)
        self.outcomes = {row.cell: row for row in read_rows(folder / CELLS, Outcome) if row.cell in self.points}

    @property
    def runs(self) -> Path:
        return self.folder / RUNS

    def missing(self, cells: Iterable[Cell]) -> list[Cell]:
        """Return the cells without a result; those that have ended are read. UserError if a folder holds another."""
        return [cell for cell in cells if not self._known(cell)]

    def of(self, cells: Iterable[Cell]) -> list[Outcome]:
        """Return the results of ``cells``, without those that have none."""
        return [self.outcomes[cell.name] for cell in cells if self._known(cell)]

    def write(self, plan: TablePlan) -> None:
        """Write all that is known, in the file's order; what it does not name (any more) comes last."""

        def place(row: Outcome) -> tuple[int, str, int, str, str, int]:
            level, variant = _rank(plan.all_levels, row.level), _rank(plan.all_variants, row.variant)
            return level, row.level, variant, row.variant, row.settings, row.seed

        rows = sorted(self.outcomes.values(), key=place)
        make_folder(self.folder)
        write_rows(self.folder / POINTS, self._points(rows), Point)  # first: a row of cells.csv has its points
        write_rows(self.folder / CELLS, rows, Outcome)

    def _points(self, outcomes: Sequence[Outcome]) -> Iterable[Point]:
        return (point for outcome in outcomes for point in self.points[outcome.cell])

    def _known(self, cell: Cell) -> bool:
        known = self.outcomes.get(cell.name)
        if known is not None and known.key == cell.key:
            return True
        folder = self.runs / cell.name
        check_folder(cell.config, folder)
        if not finished(folder):
            return False
        self.outcomes[cell.name] = read_outcome(cell, folder, read_origin(folder / ORIGIN))
        self.points[cell.name] = read_points(cell, folder)
        return True


def _rank(names: Sequence[str], name: str) -> int:
    return names.index(name) if name in names else len(names)
