"""What a table's folder keeps of runs when it is written anew."""

from __future__ import annotations

from pathlib import Path

from cosp.tables.outcome import Outcome, Point
from cosp.tables.results import Results
from cosp.tables.store import read_rows, write_rows


def test_what_was_not_asked_for_is_kept_and_what_the_file_names_no_more_is_not(tmp_path: Path, plan, outcome):
    known = [("hard-mild", "pm"), ("gone", "base"), ("easy-mild", "gone"), ("easy-mild", "prox"), ("easy-mild", "base")]
    rows = [outcome(cell=f"{level}/{variant}", level=level, variant=variant) for level, variant in known]
    write_rows(tmp_path / "cells.csv", rows, Outcome)
    points = [Point(cell=row.cell, virtual_s=0.0, version=0, accuracy=(), validation=(), chosen_exit=0, chosen=0.5)
              for row in rows]  # fmt: skip
    write_rows(tmp_path / "points.csv", points, Point)
    Results(tmp_path).write(plan(at=["easy-mild"], only=["prox"]))
    kept = ["easy-mild/base", "easy-mild/prox", "hard-mild/pm"]
    assert [row.cell for row in read_rows(tmp_path / "cells.csv", Outcome)] == kept
    assert [row.cell for row in read_rows(tmp_path / "points.csv", Point)] == kept
