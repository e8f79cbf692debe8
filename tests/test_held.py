from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cosp.errors import UserError
from cosp.held import HELD, Hold, filling, holder, remove_left_behind, scratch_folder

HOLDER = """
import sys, time
from pathlib import Path
from cosp.held import Hold
held = Hold(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def _scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_held_is_free_again_when_its_process_is_killed(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "one"
    if kind == "folder":
        path.mkdir()
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            with pytest.raises(BlockingIOError):
                Hold(path)
            if kind == "file":
                assert holder(path).startswith(f"process {process.pid} (")
        finally:
            process.kill()
    Hold(path).release()


def test_a_hold_let_go_of_twice_closes_no_other_file(tmp_path: Path) -> None:
    held = Hold(tmp_path / "one")
    held.release()
    other = os.open(tmp_path / "other", os.O_CREAT)  # gets the same number
    held.release()
    os.close(other)


def test_a_hold_leaves_what_is_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "one"
    path.write_text("text", encoding="utf-8")
    Hold(path).release()
    assert path.read_text(encoding="utf-8") == "text"


def test_a_scratch_folder_goes_with_its_block_and_outlives_others_starts(tmp_path: Path) -> None:
    with scratch_folder("data") as folder:
        (folder / "x").write_text("x", encoding="utf-8")
        with scratch_folder("data") as another:
            assert another != folder
        assert (folder / "x").exists()
    assert list(tmp_path.iterdir()) == []


def test_left_behind_is_what_nobody_holds_and_what_bears_our_mark(tmp_path: Path) -> None:
    for name in ("cosp-data-1", "cosp-other", "another"):
        (tmp_path / name).mkdir()
    for name in ("cosp-data-1", "another"):
        (tmp_path / name / HELD).touch()
    remove_left_behind()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["another", "cosp-other"]


def test_a_temporary_folder_without_room_is_one_line(tmp_path: Path) -> None:
    with scratch_folder("data") as folder:
        (folder / "x.npy").symlink_to("/dev/full")
        said = rf"^{tmp_path}: cannot be written \(.+\): make room there, or have TMPDIR"
        with pytest.raises(UserError, match=said), filling(folder):
            np.save(folder / "x.npy", np.zeros(100_000))
