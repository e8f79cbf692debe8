from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from tracked_run import TrackedRun, arrival, closed, config, opening, version_rows
from typer.testing import CliRunner

from cosp.cli import main
from cosp.errors import UserError
from cosp.track import Tracks, check_tracks
from cosp.track.scalars import Scalars


def test_the_values_of_a_version() -> None:
    scalars = Scalars()
    rows = [*opening(), closed(0, "start"), arrival(0, 0), arrival(0, 1) | {"accepted": False, "reason": "stale"}]
    assert all(not scalars.add(row) for row in rows if row["kind"] != "round")
    found = scalars.add(closed(1))
    assert found["accuracy/after_block_1"] == 0.1
    assert (found["updates/merged"], found["updates/refused"], found["staleness/mean"]) == (1, 1, 0)
    assert (found["local_accuracy/mean"], found["local_accuracy/after_block_1"]) == (0.5, 0.5)
    assert (found["coverage/block_2"], found["coverage/mean"], found["fleet/energy_j"]) == (0.5, 0.75, 4.0)
    assert scalars.add(closed(2))["updates/merged"] == 0


def test_a_version_that_is_judged_as_the_run_ends_is_judged_once() -> None:
    scalars = Scalars()
    for row in opening():
        scalars.add(row)
    assert "accuracy/chosen_exit" not in scalars.add(closed(1) | {"evaluation": None})
    assert set(scalars.add(closed(1, "end"))) > {"accuracy/chosen_exit", "accuracy/after_block_1"}
    assert scalars.add(closed(1, "end")) == {}
    assert "fleet/energy_j" not in scalars.add(closed(2, "end"))


def test_a_run_without_tracks_leaves_no_note(tmp_path: Path) -> None:
    run = TrackedRun(tmp_path / "run")
    run.write(*opening(), *version_rows(1))
    run.finish()
    assert not (tmp_path / "run" / "track.json").exists()


def test_what_is_no_tracker_is_one_line() -> None:
    with pytest.raises(UserError, match=r"--track: must be one of tensorboard, mlflow, trackio, wandb, .* got 'excel'"):
        check_tracks(["excel"])


def test_a_library_that_is_missing_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r"--track wandb: wandb is not installed; pip install 'cosp\[wandb\]'"):
        check_tracks(["wandb"])
    out = tmp_path / "run"
    done = CliRunner().invoke(main.app, ["run", "experiments/quickstart.yaml", "--track", "wandb", "--out", str(out)])
    assert isinstance(done.exception, UserError)
    assert not out.exists()


def test_a_place_on_another_machine_is_refused() -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    with pytest.raises(UserError, match=r"--track tensorboard: the place must be a folder .* got http://example\.org"):
        check_tracks(["tensorboard=http://example.org"])


def test_a_damaged_note_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "track.json").write_text("[")
    with pytest.raises(UserError, match=r"track\.json: cannot be read .* remove it to track the run anew"):
        Tracks(tmp_path, config(), {})


@pytest.mark.filterwarnings("default")
def test_a_tracked_run_writes_the_same_rows(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    for name, more in (("plain", []), ("tracked", ["--track", "tensorboard", "--watch"])):
        args = [
            "run",
            "experiments/quickstart.yaml",
            "--dry",
            "--set",
            "server.versions=4",
            "--out",
            str(tmp_path / name),
        ]
        assert CliRunner().invoke(main.app, [*args, *more]).exit_code == 0
    assert (tmp_path / "plain/rows.jsonl").read_bytes() == (tmp_path / "tracked/rows.jsonl").read_bytes()
    noted = json.loads((tmp_path / "tracked/track.json").read_text())["tensorboard"]
    assert (noted["version"], noted["run"]) == (4, "tracked")
