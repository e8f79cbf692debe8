from __future__ import annotations

import json
from pathlib import Path

import pytest

from cosp.config import load_config
from cosp.errors import UserError
from cosp.run.directory import RunDirectory

QUICKSTART = Path(__file__).parents[2] / "experiments/quickstart.yaml"


@pytest.fixture
def full(tmp_path: Path) -> RunDirectory:
    """A run directory whose every file lies on a device that is always full."""
    for name in ("rows.jsonl", "metrics.json"):
        (tmp_path / name).symlink_to("/dev/full")
    return RunDirectory(tmp_path)


def test_rows_are_read_back(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    for number in range(3):
        directory.write_row({"kind": "round", "version": number})
    lines = (tmp_path / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["version"] for line in lines] == [0, 1, 2]


@pytest.mark.parametrize("write", [RunDirectory.write_row, RunDirectory.write_metrics])
def test_a_full_disk_is_one_line_that_says_how_to_go_on(full: RunDirectory, write) -> None:
    with pytest.raises(UserError) as caught:
        write(full, {"kind": "round"})
    folder = full.folder
    assert str(caught.value) == (
        f"{folder}: cannot be written (No space left on device); mend that, then go on with --resume {folder}"
    )


def test_a_configuration_of_the_user_s_own_is_not_written_over(tmp_path: Path) -> None:
    own = tmp_path / "config.yaml"
    own.write_text("name: mine  # and a word on it\n", encoding="utf-8")
    with pytest.raises(UserError, match="is there already, and is no run's; give another --out"):
        RunDirectory.create(tmp_path, load_config(QUICKSTART))
    assert own.read_text(encoding="utf-8") == "name: mine  # and a word on it\n"


def test_rows_that_are_lost_are_not_made_up(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.write_row({"kind": "round"})
    whole = directory.rows_bytes()
    with pytest.raises(UserError, match=f"must hold the checkpoint's {whole + 1} bytes, got {whole}: rows are lost"):
        directory.check_begun([], whole + 1)
    assert directory.rows_bytes() == whole


def test_a_run_goes_on_only_as_the_experiment_that_it_began_as(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    run, client = {"kind": "run", "seed": 0, "versions": 4}, {"kind": "client", "client": 0, "board": "jetson-nano"}
    directory.write_row(run)
    directory.write_row(client)
    directory.check_begun([run | {"versions": 8}, client], directory.rows_bytes())
    with pytest.raises(UserError, match="cannot go on: seed was 0 when the run began and is 1 now; put it back"):
        directory.check_begun([run | {"seed": 1}, client], 0)
    with pytest.raises(UserError, match="client 0's board was 'jetson-nano' when the run began and is 'pi' now"):
        directory.check_begun([run, client | {"board": "pi"}], 0)
    (tmp_path / "rows.jsonl").write_bytes(b"\xff\n")
    with pytest.raises(UserError, match="cannot go on: a row was b'.xff.n' when the run began"):
        directory.check_begun([run], 0)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.mkdir(),
        lambda path: path.write_bytes(b"\xff\xfe\n"),
        lambda path: (path.parent / "metrics.json").touch(),  # the run has ended, and its rows are gone
    ],
    ids=["folder", "binary", "missing"],
)
def test_rows_that_cannot_be_read_are_one_line(tmp_path: Path, spoil) -> None:
    spoil(tmp_path / "rows.jsonl")
    with pytest.raises(UserError, match=r"rows.jsonl: cannot be read .*; put the run's rows back, or begin it anew"):
        RunDirectory(tmp_path).is_dry()


def test_a_run_killed_before_its_first_row_is_not_dry(tmp_path: Path) -> None:
    assert not RunDirectory(tmp_path).is_dry()
