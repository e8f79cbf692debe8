from __future__ import annotations

from pathlib import Path

import pytest

from cosp.errors import UserError
from cosp.tables.outcome import Outcome
from cosp.tables.store import read_rows, write_rows


def test_rows_come_back_to_the_last_bit(tmp_path: Path, outcome):
    rows = [outcome(chosen=0.1 + 0.2, loss=None, accuracy=(1 / 3, 1e-17), staleness=()), outcome(cpu='a, b\n"c"')]
    write_rows(tmp_path / "cells.csv", rows, Outcome)
    assert read_rows(tmp_path / "cells.csv", Outcome) == rows


def test_no_file_holds_no_rows(tmp_path: Path):
    assert read_rows(tmp_path / "cells.csv", Outcome) == []


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (
            lambda text: text.replace("seed,", "sead,"),
            r"cells.csv:1: does not have the columns of this cosp; remove it",
        ),
        (lambda text: text.replace(",0.5,", ",half,"), r"cells.csv:2: could not convert string to float: 'half'"),
        (lambda text: text[: len(text) // 2], r"cells.csv:1: "),
        (lambda text: text[:-20], r"cells.csv:2: must have 42 values, got "),
        (lambda text: text[:-1] + ",more\n", r"cells.csv:2: must have 42 values, got 43"),
        (lambda text: "", r"cells.csv:1: "),
        (lambda text: text.replace("x,", '"x,', 1), r"cells.csv:1: "),
        (lambda text: "\0", r"cells.csv:1: "),
    ],
)
def test_a_damaged_file_is_named_with_the_remedy(tmp_path: Path, outcome, damage, told):
    path = tmp_path / "cells.csv"
    write_rows(path, [outcome()], Outcome)
    path.write_text(damage(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(UserError, match=told):
        read_rows(path, Outcome)


def test_what_is_no_text_is_named(tmp_path: Path):
    (tmp_path / "cells.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="remove it to build it from the runs"):
        read_rows(tmp_path / "cells.csv", Outcome)
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="Is a directory"):
        read_rows(tmp_path / "folder", Outcome)


def test_a_column_that_an_older_cosp_did_not_write_is_as_its_default_says(tmp_path: Path, outcome):
    path = tmp_path / "cells.csv"
    write_rows(path, [outcome()], Outcome)
    old = [line.rpartition(",")[0] for line in path.read_text(encoding="utf-8").splitlines()]
    assert "untrained" not in old[0]
    path.write_text("\n".join(old) + "\n", encoding="utf-8")
    assert read_rows(path, Outcome) == [outcome()]


def test_what_need_not_be_known_and_of_no_row_is_has_no_column(tmp_path: Path, outcome):
    path, rows = tmp_path / "cells.csv", [outcome(), outcome(backdoor=0.25)]
    write_rows(path, rows[:1], Outcome)
    assert "backdoor" not in path.read_text(encoding="utf-8")
    write_rows(path, rows, Outcome)
    assert path.read_text(encoding="utf-8").splitlines()[0].endswith(",backdoor")
    assert read_rows(path, Outcome) == rows
