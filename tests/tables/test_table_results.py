"""What a table's folder keeps of runs when it is written anew."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cosp.errors import UserError
from cosp.tables.outcome import ORIGINS, Outcome, Point, read_origin
from cosp.tables.results import Results
from cosp.tables.store import read_rows, write_rows


def test_rows_that_were_not_asked_for_are_kept_and_those_that_the_file_does_not_name_come_last(
    tmp_path: Path, plan, outcome
):
    known = [("hard-mild", "pm"), ("gone", "base"), ("easy-mild", "gone"), ("easy-mild", "prox"), ("easy-mild", "base")]
    rows = [outcome(cell=f"{level}/{variant}", level=level, variant=variant) for level, variant in known]
    write_rows(tmp_path / "cells.csv", rows, Outcome)
    points = [Point(cell=row.cell, virtual_s=0.0, version=0, accuracy=(), validation=(), chosen_exit=0, chosen=0.5)
              for row in rows]  # fmt: skip
    write_rows(tmp_path / "points.csv", points, Point)
    Results(tmp_path).write(plan(at=["easy-mild"], only=["prox"]))
    kept = ["easy-mild/base", "easy-mild/prox", "easy-mild/gone", "hard-mild/pm", "gone/base"]
    assert [row.cell for row in read_rows(tmp_path / "cells.csv", Outcome)] == kept
    assert [row.cell for row in read_rows(tmp_path / "points.csv", Point)] == kept


@pytest.mark.parametrize("text", ["[1]", "{", '{"cpu": "x"}', "4", json.dumps(dict.fromkeys(ORIGINS, 1))])
def test_a_damaged_origin_is_one_line(tmp_path: Path, text: str):
    path = tmp_path / "seed0" / "origin.json"
    path.parent.mkdir()
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=f"{path}: .*; remove {path.parent} to run it anew"):
        read_origin(path)


def test_a_row_without_its_evaluations_is_no_result(tmp_path: Path, outcome):
    write_rows(tmp_path / "cells.csv", [outcome(cell="a")], Outcome)
    assert not Results(tmp_path).outcomes
