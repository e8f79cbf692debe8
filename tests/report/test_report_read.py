"""A run directory, whole or cut, and what is no run directory."""

from __future__ import annotations

import json
import math
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
        (
            1,
            lambda row: row.update(classes=[]),
            r"rows.jsonl:2: class_counts: must have 0 entries as row 1 says, got 10",
        ),
        (2, lambda row: row.update(class_counts=[]), r"rows.jsonl:2: class_counts: must have 10 entries .*, got 0"),
        (
            2,
            lambda row: row.update(memory_bytes=0),
            r"rows.jsonl:2: memory_bytes: .* greater than or equal to 1, got 0",
        ),
        (4, lambda row: row.update(coverage=[1.0]), r"rows.jsonl:4: coverage: must have 8 entries .*, got 1"),
        (4, lambda row: row.update(virtual_s=math.nan), r"rows.jsonl:4: virtual_s: .*, got nan"),
        (5, lambda row: row.update(energy_j=math.inf), r"rows.jsonl:5: energy_j: .*, got inf"),
        (5, lambda row: row.update(staleness=10**30), r"rows.jsonl:5: staleness: .*, got 10+;"),
        (5, lambda row: row.update(bytes_up=-1), r"rows.jsonl:5: bytes_up: .*, got -1"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(run_dir: Path, line: int, change: Any, message: str) -> None:
    edit(run_dir, line, change)
    with pytest.raises(UserError, match=message) as caught:
        read_run(run_dir)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("line", ["3", '"text"', "null", "[{}]", "{}", '{"kind": []}', '{"kind": null}'])
def test_a_row_is_an_object_with_a_kind(run_dir: Path, line: str) -> None:
    rows = (run_dir / "rows.jsonl").read_text().splitlines()
    (run_dir / "rows.jsonl").write_text("\n".join([*rows[:3], line, *rows[3:]]))
    with pytest.raises(UserError, match=r"rows.jsonl:4: a row must be a JSON object with a kind, got"):
        read_run(run_dir)


@pytest.mark.parametrize("line", ["[" * 100_000, "9" * 5000], ids=["brackets", "digits"])
def test_json_that_python_refuses_is_named_too(run_dir: Path, line: str) -> None:
    rows = (run_dir / "rows.jsonl").read_text().splitlines()
    (run_dir / "rows.jsonl").write_text("\n".join([*rows[:3], line, *rows[3:]]))
    with pytest.raises(UserError, match=r"rows.jsonl:4: not JSON"):
        read_run(run_dir)


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


def test_a_full_disk_leaves_the_old_report(run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, text: str, encoding: str) -> None:
        path.write_bytes(text[:20].encode(encoding))
        raise OSError(28, "No space left on device")

    out = tmp_path / "report.html"
    out.write_text("<!doctype html>old")
    monkeypatch.setattr("cosp.report.page.render", lambda runs, labels: "<!doctype html>a longer one")
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(UserError, match=r"report.html: cannot be written \(No space left on device\)"):
        write_report([run_dir], out)
    assert out.read_text() == "<!doctype html>old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "tiny"]
