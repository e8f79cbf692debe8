from __future__ import annotations

import os
from pathlib import Path

import pytest

from cosp.errors import UserError
from cosp.files import make_folder, replace_text


def test_a_disk_that_fills_up_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a.csv"
    replace_text(path, "old\n")
    write = Path.write_text

    def full(self: Path, text: str, encoding: str) -> int:
        write(self, text[:2], encoding=encoding)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(UserError, match=r"a.csv: cannot be written \(No space left on device\); mend that or give"):
        replace_text(path, "new\n")
    assert [(one.name, one.read_text(encoding="utf-8")) for one in tmp_path.iterdir()] == [("a.csv", "old\n")]


def test_a_link_stays_one_and_a_pipe_is_written_to(tmp_path: Path):
    (tmp_path / "link").symlink_to(tmp_path / "file")
    replace_text(tmp_path / "link", "text")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text(encoding="utf-8") == "text"
    end, other = os.pipe()
    replace_text(Path(f"/proc/self/fd/{other}"), "text")
    assert os.read(end, 10) == b"text"
    os.close(end)
    os.close(other)


def test_a_file_in_a_folder_s_place_is_named(tmp_path: Path):
    (tmp_path / "a").touch()
    with pytest.raises(UserError, match=r"a: cannot be written \(File exists\)"):
        make_folder(tmp_path / "a")
    with pytest.raises(UserError, match=r"a/b: cannot be written \(Not a directory\)"):
        make_folder(tmp_path / "a" / "b")
