"""The page itself: what it holds, that it needs nothing from outside, and that a browser draws it."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from cosp.errors import UserError
from cosp.report import write_report

MakeRun = Callable[..., Path]

SHARED = ["accuracy-rounds", "accuracy-time", "accuracy-exits"]
OF_A_RUN = [
    "timeline", "board-time", "utilisation", "staleness", "coverage", "bytes", "bytes-boards", "energy", "memory",
    "classes", "local-accuracy",
]  # fmt: skip

# Only this copy of the page gets a script: it writes down how large each figure came out.
MEASURE = """<script>
for (const figure of document.querySelectorAll("figure")) {
  const box = figure.querySelector("svg").getBoundingClientRect();
  figure.dataset.size = Math.round(box.width) + "x" + Math.round(box.height);
}
for (const box of document.querySelectorAll("#headline .scroll"))
  box.dataset.hidden = box.scrollWidth - box.clientWidth;
</script></body>"""


def browse(page: Path, profile: Path) -> tuple[str, list[str]]:
    """The document after headless Chromium has drawn ``page``, and the lines that it wrote to the console."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium on this machine")
    done = subprocess.run(
        [
            chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-sync", "--disable-background-networking", "--disable-component-update",
            f"--user-data-dir={profile}",
            "--window-size=1240,2000", "--virtual-time-budget=2000", "--dump-dom", "--enable-logging=stderr", "--v=0",
            page.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def figure_ids(html: str) -> list[str]:
    return re.findall(r'<figure id="([^"]+)"', html)


def test_a_browser_draws_every_figure_and_finds_no_error(make_run: MakeRun, tmp_path: Path) -> None:
    page = write_report([make_run(tmp_path / "run")], tmp_path / "report.html")
    measured = tmp_path / "measured.html"
    measured.write_text(page.read_text().replace("</body>", MEASURE))
    document, console = browse(measured, tmp_path / "profile")
    assert console == []
    sizes = dict(re.findall(r'<figure id="([^"]+)"[^>]* data-size="(\d+)x\d+"', document))
    heights = dict(re.findall(r'<figure id="([^"]+)"[^>]* data-size="\d+x(\d+)"', document))
    assert list(sizes) == [*SHARED, *OF_A_RUN]
    assert all(int(width) > 400 for width in sizes.values()), sizes
    assert all(int(height) > 100 for height in heights.values()), heights


def test_the_longest_line_of_the_headline_needs_no_scrolling(make_run: MakeRun, tmp_path: Path) -> None:
    page = write_report([make_run(tmp_path / "run")], tmp_path / "report.html")
    long = re.sub("<th>chosen exit [^<]*<", "<th>chosen exit (after block 12, at the best 11)<", page.read_text())
    page.write_text(long.replace("</body>", MEASURE))
    document, _ = browse(page, tmp_path / "profile")
    assert "at the best 11" in document
    assert re.findall(r'class="card scroll" data-hidden="(\d+)"', document) == ["0", "0"]


def test_the_browser_check_catches_a_page_that_throws(tmp_path: Path) -> None:
    page = tmp_path / "broken.html"
    page.write_text('<!doctype html><body><script>throw new Error("boom")</script></body>')
    _, console = browse(page, tmp_path / "profile")
    assert any("boom" in line for line in console)


@pytest.fixture(scope="module")
def of_one(make_run: MakeRun, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of one run."""
    folder = tmp_path_factory.mktemp("one")
    return write_report([make_run(folder / "run", versions=6)], folder / "report.html").read_text()


@pytest.fixture(scope="module")
def of_two(make_run: MakeRun, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of two runs side by side."""
    folder = tmp_path_factory.mktemp("two")
    runs = [make_run(folder / name, versions=4, seed=seed) for seed, name in enumerate(("ours", "theirs"))]
    return write_report(runs, folder / "report.html").read_text()


def test_the_page_has_no_script_and_names_no_address(of_one: str) -> None:
    page = of_one
    assert "<script" not in page
    assert "http://" not in page
    assert "https://" not in page
    assert "@import" not in page
    targets = re.findall(r'(?:src|href)="([^"]*)"', page) + re.findall(r"url\(([^)]*)\)", page)
    assert targets
    assert all(target.startswith("#") or target == "data:," for target in targets)
    inside = {target[1:] for target in targets if target.startswith("#")}
    ids = re.findall(r' id="([^"]+)"', page)
    assert inside <= set(ids)
    assert len(ids) == len(set(ids))


def test_the_same_run_gives_the_same_bytes(make_run: MakeRun, tmp_path: Path) -> None:
    run_dir = make_run(tmp_path / "run", versions=4)
    first, second = (write_report([run_dir], tmp_path / name).read_bytes() for name in ("a.html", "b.html"))
    assert first == second


def test_runs_side_by_side_share_the_accuracy_figures_and_keep_their_own(of_two: str) -> None:
    assert figure_ids(of_two) == SHARED + [f"{name}-1" for name in OF_A_RUN] + [f"{name}-2" for name in OF_A_RUN]
    assert of_two.count('<a href="#run-') == 2


def test_runs_of_one_name_are_told_apart_by_their_folders(make_run: MakeRun, tmp_path: Path) -> None:
    run_dirs = [make_run(tmp_path / parent / "run", clients=2, versions=2) for parent in ("a", "b")]
    run_dirs = [shutil.move(run_dir, tmp_path / f"seed-{i}") for i, run_dir in enumerate(run_dirs)]
    page = write_report(run_dirs, tmp_path / "report.html").read_text()
    assert "run (seed-0)" in page
    assert "run (seed-1)" in page


def test_a_killed_run_is_shown_with_a_notice(make_run: MakeRun, tmp_path: Path) -> None:
    page = write_report([make_run(tmp_path / "run", killed=True)], tmp_path / "report.html").read_text()
    assert figure_ids(page) == [*SHARED, *OF_A_RUN]
    assert page.count('class="notice"') == 2
    assert 'class="empty"' not in page


@pytest.mark.parametrize("rows", [1, *(pytest.param(rows, marks=pytest.mark.slow) for rows in (5, 8)), 6])
def test_a_run_killed_at_its_very_start_is_still_a_page(make_run: MakeRun, tmp_path: Path, rows: int) -> None:
    run_dir = make_run(tmp_path / "run", clients=4, versions=2)
    lines = (run_dir / "rows.jsonl").read_text().splitlines(keepends=True)
    (run_dir / "rows.jsonl").write_text("".join(lines[:rows]))
    (run_dir / "metrics.json").unlink()
    page = write_report([run_dir], tmp_path / "report.html").read_text()
    assert figure_ids(page) == [*SHARED, *OF_A_RUN]
    assert 'class="empty"' in page


def test_of_many_clients_a_sample_is_shown_and_said_to_be_one(make_run: MakeRun, tmp_path: Path) -> None:
    page = write_report([make_run(tmp_path / "run", clients=60, versions=3)], tmp_path / "report.html").read_text()
    assert "Shown are 40 of 60 clients" in page
    assert page.count('<tr><td class="text">') == 40


def test_names_are_escaped(make_run: MakeRun, tmp_path: Path) -> None:
    run_dir = make_run(tmp_path / "run", clients=2, versions=2)
    rows = (run_dir / "rows.jsonl").read_text()
    (run_dir / "rows.jsonl").write_text(rows.replace("jetson-nano", "<b>$x$").replace("Trouser", "<i>&"))
    (run_dir / "config.yaml").write_text("name: <script>alert(1)</script>\n")
    page = write_report([run_dir], tmp_path / "report.html").read_text()
    assert "<script" not in page
    assert "<b>" not in page
    assert "<i>" not in page
    assert "&lt;b&gt;$x$" in page


def test_a_file_that_is_no_report_is_not_written_over(make_run: MakeRun, tmp_path: Path):
    run_dir = make_run(tmp_path / "run")
    rows = (run_dir / "rows.jsonl").read_bytes()
    with pytest.raises(UserError, match="is there already, and is no report; choose another --out"):
        write_report([run_dir], run_dir / "rows.jsonl")
    assert (run_dir / "rows.jsonl").read_bytes() == rows


def test_the_head_says_what_the_run_is_of(make_run: MakeRun, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", versions=6)
    (folder / "config.yaml").write_text(
        "title: Shirts & shoes\ndata: {name: fashion_mnist}\nfleet: paper16\nmodel: {dim: 64}\n"
        "assignment: {rule: memory_share}\n"
    )
    page = write_report([folder], tmp_path / "report.html").read_text()
    assert "<h1>Shirts &amp; shoes</h1>" in page
    assert re.search(r"<dt>Data</dt><dd>fashion_mnist, 10 classes, [\d,]+ training samples on 16 clients", page)
    assert "8 blocks, dim 64, 5.60 M parameters; exits after blocks 2, 4, 6, 8" in page
    assert re.search(r"<dt>Fleet</dt><dd>paper16: 3 jetson-nano, ", page)
    assert "by keep ratio of the memory that training the whole model takes" in page


def test_exits_are_named_by_their_blocks(of_one: str) -> None:
    assert "chosen exit (after block 6" in of_one  # index 2 of 2, 4, 6, 8


def test_several_runs_are_compared_by_no_best_of_the_test_data(of_two: str) -> None:
    assert "<th>best</th>" not in of_two
