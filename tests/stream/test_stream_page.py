from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from small_stream import opened

from cosp.errors import UserError
from cosp.run.directory import RunDirectory
from cosp.stream.page import write_page
from cosp.stream.planning import leaving_text, plan_rows, stream_table
from cosp.stream.read import is_stream, read_stream
from cosp.stream.simulate import simulate


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory, run: Path) -> Path:
    folder = tmp_path_factory.mktemp("page")
    config, deployed = opened(folder, run)
    simulate(config, deployed, RunDirectory.create(folder / "out", config), workers=0, data_dir=None)
    return folder / "out"


def test_a_page_says_what_left_the_boards_and_holds_its_figures(stream: Path, tmp_path: Path) -> None:
    text = write_page([stream], tmp_path / "page.html").read_text(encoding="utf-8")
    uploaded = json.loads((stream / "metrics.json").read_text())["uploaded"]
    assert f"the server received {uploaded} of them and can read them" in text
    assert all(f'<figure id="{name}"' in text for name in ("accuracy", "boards", "drift", "bytes", "energy"))
    assert "http" not in text.replace("http-equiv", "")
    assert text == write_page([stream], tmp_path / "again.html").read_text(encoding="utf-8")


def test_streams_stand_side_by_side(stream: Path, tmp_path: Path) -> None:
    text = write_page([stream, stream], tmp_path / "page.html").read_text(encoding="utf-8")
    assert "2 streams side by side" in text
    assert '<figure id="drift"' not in text


def test_of_a_stream_that_was_killed_what_there_is_is_shown(stream: Path, tmp_path: Path) -> None:
    rows = (stream / "rows.jsonl").read_bytes()
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "rows.jsonl").write_bytes(rows[: len(rows) // 2])
    assert is_stream(tmp_path / "cut")
    found = read_stream(tmp_path / "cut")
    assert found.metrics is None
    assert 0 < found.tally.stream.samples < read_stream(stream).tally.stream.samples


def test_a_training_run_is_none(run: Path, tmp_path: Path) -> None:
    assert not is_stream(run)
    with pytest.raises(UserError, match="row 1 must be of kind 'stream'"):
        write_page([run], tmp_path / "page.html")


def test_the_plan_says_what_leaves_the_boards(tmp_path: Path, run: Path) -> None:
    config, deployed = opened(tmp_path, run)
    assert "Samples leave the boards: by upload.rule random each sends up to 4 samples" in leaving_text(config)
    assert "can read them" in leaving_text(config)
    rows = plan_rows(config, deployed)
    assert [row["client"] for row in rows] == [0, 1, 2, 3]
    assert all(row["bytes_up"] == 4 * 64 and row["memory_bytes"] < row["memory_limit_bytes"] for row in rows)
    shown = io.StringIO()
    Console(width=80, file=shown).print(stream_table(rows, "boards"))
    assert "…" not in shown.getvalue()
    silent, _ = opened(tmp_path, run, "upload.rule=none")
    assert leaving_text(silent).startswith("No sample leaves a board")
