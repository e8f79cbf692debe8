"""The page in a browser, at a run that grows."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from half_run import Half

from cosp.watch import Watch

FIGURES = {"accuracy", "staleness", "energy", "memory"}


def browse(url: str, profile: Path, *, width: int = 1240) -> str:
    """The document after headless Chromium has drawn ``url``; it must have found no error."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium on this machine")
    done = subprocess.run(
        [
            chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-sync", "--disable-background-networking", "--disable-component-update",
            f"--user-data-dir={profile}", f"--window-size={width},2000", "--virtual-time-budget=1500", "--dump-dom",
            "--enable-logging=stderr", "--v=0", url,
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    return done.stdout


def text(document: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", document))


def drawn(document: str) -> set[str]:
    return set(re.findall(r'<div class="plot" id="(\w+)"[^>]*><svg', document))


def grow(half: Half) -> None:
    for version in range(3):
        half.round(version, 2.0 * version, (0.1 * version, 0.2 * version))
        half.arrival(version, staleness=version)
    half.now()


def test_a_run_at_work(half: Half, tmp_path: Path) -> None:
    grow(half)
    with Watch(half.folder) as page:
        document = browse(page.url, tmp_path / "profile")
    assert drawn(document) == FIGURES
    for said in (
        "running",
        "50 % done",
        "2 of 4 versions",
        "about 30 s left",
        "40.0 %",
        "1 of 3",
        "waiting 1",
        "off 1",
    ):
        assert said in text(document)
    assert document.count("<tr>") == 4


def test_a_run_that_has_not_begun(half: Half, tmp_path: Path) -> None:
    (half.folder / "rows.jsonl").unlink()
    with Watch(half.folder) as page:
        document = browse(page.url, tmp_path / "profile")
    assert drawn(document) == set()
    assert document.count('class="empty"') == 5
    assert "not begun yet" in text(document)


def test_a_run_that_has_stopped_says_how_to_go_on(half: Half, tmp_path: Path) -> None:
    grow(half)
    (half.folder / "now.json").unlink()
    with Watch(half.folder) as page:
        document = browse(page.url, tmp_path / "profile")
    assert f"cosp run --resume {half.folder}" in text(document)
    assert "not running 3" in text(document)


def test_ten_thousand_boards_on_a_narrow_page(make_half: Callable[[int], Half], tmp_path: Path) -> None:
    half = make_half(10_000)
    grow(half)
    with Watch(half.folder) as page:
        document = browse(page.url, tmp_path / "profile", width=500)
    assert drawn(document) == FIGURES
    assert "<canvas" in document
    assert "10000 boards, one row a kind" in text(document)
    assert document.count("<tr>") == 3


def test_names_are_text(half: Half, tmp_path: Path) -> None:
    rows = half.folder / "rows.jsonl"
    rows.write_text(rows.read_text().replace('"nano"', '"<img src=x onerror=alert(1)>"'))
    with Watch(half.folder) as page:
        document = browse(page.url, tmp_path / "profile")
    assert "&lt;img src=x" in document
    assert "<img" not in document
