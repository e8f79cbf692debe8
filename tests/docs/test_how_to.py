"""The pages that tell how to extend cosp, followed to the letter on a copy of it: files, changes, commands."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pages
import pytest

PAGES = sorted(page for page in pages.PAGES if page.startswith("docs/add_a_"))


def changed(text: str, diff: str) -> str:
    """Apply a diff without line numbers: each line that is kept or removed is the next of its kind in ``text``.

    A line is added after the one above it in the diff; at the diff's top, before the one below it.
    """
    lines, place = text.splitlines(keepends=True), 0
    first = next(line[1:] + "\n" for line in diff.splitlines() if line[0] != "+")
    if diff.startswith("+"):
        place = lines.index(first)
    for mark, line in ((one[0], one[1:] + "\n") for one in diff.splitlines()):
        if mark == "+":
            lines.insert(place, line)
            place += 1
        else:
            assert line in lines[place:], f"no such line any more: {line!r}"
            place = lines.index(line, place)
            if mark == "-":
                del lines[place]
            else:
                place += 1
    return "".join(lines)


def test_a_change_is_put_where_its_neighbours_are() -> None:
    assert changed("a\nb\na\nb\nc\n", " a\n a\n+new\n-c\n+d\n") == "a\nb\na\nnew\nb\nd\n"
    assert changed("a\nb\n", "+new\n b\n") == "a\nnew\nb\n"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for folder in ("cosp", "devices"):
        shutil.copytree(pages.ROOT / folder, tmp_path / folder)
    return tmp_path


def lay_out(page: str, folder: Path) -> None:
    """Write every file that the page shows, and make its changes."""
    for block in pages.blocks(pages.read(page)):
        if block.title:
            path = folder / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            text = changed(path.read_text(encoding="utf-8"), block.text) if block.language == "diff" else block.text
            path.write_text(text, encoding="utf-8")


@pytest.mark.integration
@pytest.mark.parametrize("page", PAGES)
def test_the_page_can_be_followed(page: str, copy: Path) -> None:
    lay_out(page, copy)
    lines = [line for block in pages.blocks(pages.read(page)) if block.language == "sh" for line in block.shell_lines()]
    assert lines
    for line in lines:
        program = f"{sys.executable} -m cosp.cli" if line.startswith("cosp ") else sys.executable
        words = [*program.split(), *line.split()[1:]]
        done = subprocess.run(
            words, cwd=copy, env={**os.environ, "PYTHONPATH": str(copy)}, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
