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


@pytest.mark.parametrize(("change", "told"), [(("seed,", "sead,"), "columns"), ((",0.5,", ",half,"), r"cells.csv:2: ")])
def test_a_file_that_is_no_such_file_is_named_with_the_remedy(tmp_path: Path, outcome, change, told):
    path = tmp_path / "cells.csv"
    write_rows(path, [outcome()], Outcome)
    path.write_text(path.read_text().replace(*change), encoding="utf-8")
    with pytest.raises(UserError, match=told):
        read_rows(path, Outcome)
