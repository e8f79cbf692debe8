"""A dry stream takes the time, the bytes and the joules of a real one, and computes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_stream import opened
from tiny_runs import rows_of

from cosp.run.directory import RunDirectory
from cosp.stream.dry import run_dry
from cosp.stream.page import write_page
from cosp.stream.simulate import simulate

COSTS = ("client", "window", "samples", "missed", "bytes_up", "bytes_down", "download_s", "compute_s", "upload_s",
         "energy_j", "lost", "virtual_s", "severity")  # fmt: skip


def costs(rows: list[dict[str, Any]], kind: str) -> list[list[Any]]:
    return [[row.get(name) for name in COSTS] for row in rows if row["kind"] == kind]


@pytest.fixture
def dry(tmp_path: Path, run: Path) -> Any:
    def made(*sets: str, **changes: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        config, deployed = opened(tmp_path, run, *sets, **changes)
        metrics = run_dry(config, deployed, RunDirectory.create(tmp_path / "dry", config))
        return rows_of(tmp_path / "dry"), metrics

    return made


def test_what_boards_answer_costs_what_it_does_in_a_real_stream(dry: Any, tmp_path: Path, run: Path) -> None:
    config, deployed = opened(tmp_path, run, "upload.rule=none")
    simulate(config, deployed, RunDirectory.create(tmp_path / "real", config), workers=0, data_dir=None)
    rows, metrics = dry("upload.rule=none")
    assert costs(rows, "window") == costs(rows_of(tmp_path / "real"), "window")
    assert metrics["samples"] > 0
    assert metrics["uploaded"] == metrics["sets"] == 0


def test_budgets_are_used_up_and_sets_follow(dry: Any, tmp_path: Path) -> None:
    rows, metrics = dry(download={"how": "whole"}, trial={"windows": 1})
    windows = [row for row in rows if row["kind"] == "window"]
    assert all(row["chosen"] == min(4, row["samples"]) for row in windows)
    assert metrics["steps"] == metrics["uploaded"] // 8 > 0
    halves = {row["client"]: 2 * row["parameters"] for row in rows if row["kind"] == "client"}
    loads = [row for row in rows if row["kind"] == "download"]
    assert loads
    assert all(row["bytes_down"] - halves[row["client"]] == 13 for row in loads)
    assert metrics["rollbacks"] == 0 < metrics["sets"]
    assert metrics["models"] == []
    assert not (tmp_path / "dry" / "model").exists()
    assert RunDirectory(tmp_path / "dry").is_dry()
    assert write_page([tmp_path / "dry"], tmp_path / "page.html").stat().st_size > 10_000
