"""A run directory, whole or cut, and what is no run directory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cosp.errors import UserError
from cosp.report import read_run, write_report

MakeRun = Callable[..., Path]


def edit(folder: Path, line: int, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the row at ``line`` (from 1) of the run in ``folder``."""
    rows = (folder / "rows.jsonl").read_text().splitlines()
    row = json.loads(rows[line - 1])
    change(row)
    rows[line - 1] = json.dumps(row)
    (folder / "rows.jsonl").write_text("\n".join(rows) + "\n")


@pytest.fixture
def run_dir(make_run: MakeRun, tmp_path: Path) -> Path:
    return make_run(tmp_path / "tiny", clients=2, versions=2)  # rows: 1 run, 2-3 clients, 4 version 0, 5.. arrivals


def test_a_whole_run_has_no_notice(run_dir: Path) -> None:
    run = read_run(run_dir)
    assert [client.client for client in run.clients] == [0, 1]
    assert [row.version for row in run.rounds] == [0, 1, 2]
    assert run.metrics is not None
    assert run.metrics.final.local.worst_decile == 0.78
    assert run.metrics.final.scores == run.rounds[-1].evaluation
    assert run.notices == ()


def test_a_cut_last_row_and_a_missing_metrics_file_are_notices(run_dir: Path) -> None:
    rows = (run_dir / "rows.jsonl").read_text()
    (run_dir / "rows.jsonl").write_text(rows[:-20])
    (run_dir / "metrics.json").unlink()
    (run_dir / "config.yaml").unlink()
    run = read_run(run_dir)
    assert [row.version for row in run.rounds] == [0, 1]
    assert [notice.split(":")[0] for notice in run.notices] == [
        f"The last row of rows.jsonl (line {len(rows.splitlines())}) is cut and was left out.",
        "There is no metrics.json",
        "There is no config.yaml, so the configuration cannot be shown.",
    ]


def test_a_cut_metrics_file_is_a_notice(run_dir: Path) -> None:
    (run_dir / "metrics.json").write_text('{"final": {')
    assert read_run(run_dir).notices == ("metrics.json is cut. Figures and totals come from rows.jsonl alone.",)


def test_rows_of_other_kinds_and_unknown_keys_are_ignored(run_dir: Path) -> None:
    edit(run_dir, 2, lambda row: row.update(colour="green"))
    with (run_dir / "rows.jsonl").open("a") as rows:
        rows.write('{"kind": "weather"}\n')
    assert len(read_run(run_dir).clients) == 2


def test_a_folder_without_rows_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no run here \(rows.jsonl is missing\)"):
        read_run(tmp_path)
    with pytest.raises(UserError, match="no run here"):
        read_run(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("line", "change", "message"),
    [
        (1, lambda row: row.update(kind="client"), r"rows.jsonl:1: kind is 'client'"),
        (2, lambda row: row.update(kind="run"), r"rows.jsonl:2: kind is 'run', but row 1 and no other"),
        (2, lambda row: row.pop("board"), r"rows.jsonl:2: board is missing"),
        (5, lambda row: row.update(compute_s="soon"), r"rows.jsonl:5: compute_s: .*number.*got 'soon'"),
        (5, lambda row: row.update(client=9), r"rows.jsonl:5: client 9 has no row of kind 'client'"),
        (4, lambda row: row["evaluation"].update(accuracy=[0.1]), r"rows.jsonl:4: accuracy of 1 exits, .* 4 exits"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(run_dir: Path, line: int, change: Any, message: str) -> None:
    edit(run_dir, line, change)
    with pytest.raises(UserError, match=message) as caught:
        read_run(run_dir)
    assert "\n" not in str(caught.value)


def test_garbage_in_the_middle_is_not_taken_for_a_killed_run(run_dir: Path) -> None:
    rows = (run_dir / "rows.jsonl").read_text().splitlines()
    (run_dir / "rows.jsonl").write_text("\n".join([*rows[:3], '{"kind": "rou', *rows[3:]]))
    with pytest.raises(UserError, match=r"rows.jsonl:4: not JSON"):
        read_run(run_dir)


def test_an_empty_rows_file_and_a_wrong_metrics_file_are_errors(run_dir: Path) -> None:
    (run_dir / "metrics.json").write_text('{"final": 3, "best": {}}')
    with pytest.raises(UserError, match=r"metrics.json: final or best"):
        read_run(run_dir)
    (run_dir / "rows.jsonl").write_text("")
    with pytest.raises(UserError, match=r"rows.jsonl:1: no complete row"):
        read_run(run_dir)


def test_a_report_of_nothing_or_to_nowhere_is_an_error(run_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="got none"):
        write_report([], tmp_path / "report.html")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        write_report([run_dir], tmp_path / "file" / "report.html")
