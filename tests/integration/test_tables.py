"""A whole tiny table: runs, search, files; again, without the runs, interrupted, and with a cell that fails."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from pathlib import Path

import pytest
import yaml
from rich.console import Console
from tiny_runs import TINY

from cosp.errors import CospError, UserError
from cosp.tables.fill import fill_tables
from cosp.tables.outcome import Outcome, Point
from cosp.tables.plan import plan_table
from cosp.tables.running import run_cells
from cosp.tables.store import read_rows

pytestmark = pytest.mark.integration

TABLE = {
    **TINY,
    "assignment": {"rule": "memory_share"},
    "server": {"until_s": 0.3, "evaluate_every_s": 0.1, "quorum": 0.5, "checkpoint_every": 2},
    "variants": {"full": {"method": {"name": "fedavg"}}, "mask": {"method": {"name": "fiarse"}}},
    "table": {"seeds": [0], "target_accuracy": 0.1, "search": {"training.learning_rate": [0.001, 0.01]}},
}
FILES = {"cells.csv", "points.csv", "table.csv", "table.md", "table.tex", "index.md",
         "accuracy.svg", "memory.svg", "utilisation.svg", "staleness.svg"}  # fmt: skip


def fill(folder: Path, *, only: list[str], jobs: int = 2, **changes) -> dict[str, str]:
    path = folder.parent / ("changed.yaml" if changes else "tiny.yaml")
    path.write_text(yaml.safe_dump({**TABLE, **changes}), encoding="utf-8")
    _, failed = fill_tables(path, seeds=None, only=only, at=None, folder=folder, jobs=jobs, workers=0, overrides=[],
                            data_dir=None, console=Console(quiet=True))  # fmt: skip
    return failed


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("table") / "results"
    assert fill(folder, only=["full"]) == {}
    return folder


def test_everything_is_written_and_the_search_is_by_validation(filled: Path):
    assert set(bytes_of(filled)) == FILES
    cells = read_rows(filled / "cells.csv", Outcome)
    assert [(cell.variant, cell.seed) for cell in cells] == [("base", 0), ("base", 0), ("full", 0), ("full", 0)]
    best = max((cell for cell in cells if cell.variant == "full"), key=lambda cell: cell.valid)
    assert f"| full | {best.settings} |" in (filled / "table.md").read_text(encoding="utf-8")
    assert f"| full | {best.chosen:.3f} |" in (filled / "table.md").read_text(encoding="utf-8")
    assert "tiny.yaml --only full`" in (filled / "index.md").read_text(encoding="utf-8")


def test_a_cell_says_what_its_run_says(filled: Path):
    cell = read_rows(filled / "cells.csv", Outcome)[0]
    metrics = json.loads((filled / "runs" / cell.cell / "metrics.json").read_text())
    final = metrics["final"]
    assert list(cell.accuracy) == final["global"]["accuracy"]
    assert cell.chosen == final["global"]["chosen_accuracy"]
    assert (cell.local_mean, cell.local_worst) == pytest.approx(
        (final["local"]["mean"], final["local"]["worst_decile"])
    )
    assert (cell.energy_j, cell.utilisation) == (metrics["energy_j"], metrics["utilisation"])
    assert (cell.bytes_up, cell.virtual_s) == (metrics["bytes_up"], 0.3)
    assert cell.peak_bytes == max(metrics["peak_memory_bytes"].values())
    assert {str(age): n for age, n in enumerate(cell.staleness) if n} == metrics["staleness"]
    points = [point for point in read_rows(filled / "points.csv", Point) if point.cell == cell.cell]
    assert points[-1].chosen == cell.chosen


def test_the_base_keeps_its_budget_and_the_whole_model_does_not(filled: Path):
    base, *_, full = read_rows(filled / "cells.csv", Outcome)
    assert base.memory_used <= 1 < full.memory_used
    assert full.capacity_used == 2.0  # on the boards of keep ratio 1/2


def test_again_changes_no_byte_and_needs_no_runs(filled: Path, tmp_path: Path):
    alone = tmp_path / "results"
    alone.mkdir()
    for name in ("cells.csv", "points.csv"):
        shutil.copy(filled / name, alone)
    assert fill(alone, only=["full"]) == {}
    found, wanted = bytes_of(alone), bytes_of(filled)
    assert not (alone / "runs").exists()
    assert {n: b for n, b in found.items() if n != "index.md"} == {n: b for n, b in wanted.items() if n != "index.md"}


def test_without_runs_the_table_is_of_what_is_known(filled: Path, tmp_path: Path):
    alone = tmp_path / "results"
    alone.mkdir()
    for name in ("cells.csv", "points.csv"):
        shutil.copy(filled / name, alone)
    assert fill(alone, only=["full", "mask"], jobs=0) == {}
    for name in ("table.csv", "accuracy.svg", "cells.csv"):
        assert (alone / name).read_bytes() == (filled / name).read_bytes()
    assert not (alone / "runs").exists()


def test_a_changed_configuration_is_not_taken_for_the_old_one(filled: Path):
    with pytest.raises(UserError, match="holds a run of another configuration"):
        fill(filled, only=["full"], jitter=0.1)


def test_a_cell_that_fails_is_named_and_the_others_go_on(tmp_path: Path):
    failed = fill(tmp_path / "results", only=["mask"], table={"seeds": [0]})
    assert list(failed) == ["mask/seed0"]
    assert "keeps no memory_share" in failed["mask/seed0"]
    assert "mask/seed0" in (tmp_path / "results/index.md").read_text(encoding="utf-8")
    assert [cell.variant for cell in read_rows(tmp_path / "results/cells.csv", Outcome)] == ["base"]


def test_a_process_that_dies_takes_one_cell_with_it(filled: Path, tmp_path: Path):
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TABLE), encoding="utf-8")
    plan = plan_table(tmp_path / "tiny.yaml", only=["base"])
    cells = [plan.cell(plan.levels[0], "base", candidate, 0) for candidate in plan.candidates("base")]

    def kill_the_first(news) -> None:
        if news.cell == cells[0] and news.error is None:
            for process in multiprocessing.active_children():
                process.kill()

    failed = run_cells(cells, tmp_path, jobs=1, workers=0, data_dir=None, on_news=kill_the_first)
    assert list(failed) == [cells[0].name]
    assert "its process died (exit code -9)" in failed[cells[0].name]
    rows = (tmp_path / cells[1].name / "rows.jsonl").read_bytes()
    assert rows == (filled / "runs" / cells[1].name / "rows.jsonl").read_bytes()


def test_tables_stay_as_they_are_when_no_run_has_a_result(tmp_path: Path):
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "table.md").write_text("as it was", encoding="utf-8")
    with pytest.raises(CospError, match=r"no run has a result, 1 failed; base/seed0: .* keeps no memory_share"):
        fill(folder, only=["base"], method={"name": "fiarse"}, table={"seeds": [0]})
    assert (folder / "table.md").read_text(encoding="utf-8") == "as it was"
    assert not (folder / "index.md").exists()


def test_an_interrupted_table_goes_on_to_the_same_rows(filled: Path, tmp_path: Path):
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TABLE), encoding="utf-8")
    plan = plan_table(tmp_path / "tiny.yaml", only=["base"])
    cell = plan.cell(plan.levels[0], "base", plan.candidates("base")[0], 0)

    def stop(news) -> None:
        if list((tmp_path / cell.name / "checkpoint").glob("*.json")):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_cells([cell], tmp_path, jobs=1, workers=0, data_dir=None, on_news=stop)
    assert run_cells([cell], tmp_path, jobs=1, workers=1, data_dir=None) == {}
    rows = (tmp_path / cell.name / "rows.jsonl").read_bytes()
    assert rows == (filled / "runs" / cell.name / "rows.jsonl").read_bytes()
