"""The page of a run on real boards: its time is the wall's, what was measured stands beside what was predicted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cosp.console import summary
from cosp.report import read_run, write_report
from cosp.report.tallies import board_totals

VITALS = {"wall_cpu_s": 90.0, "wall_temperature_c": 71.4, "wall_received_bytes": 2_000_000, "wall_sent_bytes": 1000}


def on_boards(run: Path, **vitals: float) -> Path:
    """Make a simulated run's directory one of real boards: with what they measured, and a profile that it mended."""
    rows: list[dict[str, Any]] = [json.loads(line) for line in (run / "rows.jsonl").read_text().splitlines()]
    for row in rows:
        if row["kind"] == "arrival":
            row |= {"wall_step_s": 0.25, "wall_peak_rss_bytes": 345_000_000} | vitals
        if row["kind"] == "arrival" and row["client"] == 1:
            row["wall_peak_cuda_bytes"] = 512_000_000
    (run / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (run / "profiles").mkdir()
    (run / "profiles" / "client-0.yaml").write_text("calibration: corrected by 17.90 from 9 tasks that it trained\n")
    (run / "profiles" / "client-x.yaml").write_text("calibration: [")
    return run


def test_the_page_speaks_of_no_simulation_and_shows_what_was_measured(make_run, tmp_path: Path) -> None:
    run = on_boards(make_run(tmp_path / "run", versions=4))
    page = write_report([run], tmp_path / "report.html").read_text()
    assert "What boards measured" not in page  # they measured nothing more
    assert "no board measured it" not in page
    assert "irtual" not in page
    assert "simulate" not in page
    for said in ("345 MB", "512 MB", "peak memory, predicted", "corrected by 17.90 from 9 tasks that it trained",
                 "as its file says", "Flower, links", "open ones were measured"):  # fmt: skip
        assert said in page, said


def test_how_boards_fared_is_a_table_of_what_was_measured(make_run, tmp_path: Path) -> None:
    page = write_report([on_boards(make_run(tmp_path / "run", versions=4), **VITALS)], tmp_path / "r.html").read_text()
    for said in ("What boards measured", "71 °C", "90 s", "↓ 2 MB ↑ 1 kB", "<th>counted</th>"):
        assert said in page, said
    for absent in ("slowed down", "<th>clock</th>", "busy cores"):  # nothing measured it
        assert absent not in page, absent


def test_a_simulated_run_s_page_is_as_it_was(make_run, tmp_path: Path) -> None:
    page = write_report([make_run(tmp_path / "run", versions=4)], tmp_path / "report.html").read_text()
    assert "Virtual time" in page
    assert "to simulate it" in page
    for absent in ("predicted", "Flower, links", "its profile", "open ones were measured", ">measured<"):
        assert absent not in page, absent


def test_the_gpu_s_memory_counts_where_there_is_one(make_run, tmp_path: Path) -> None:
    totals = board_totals(read_run(on_boards(make_run(tmp_path / "run", versions=4))))
    assert [board.measured_bytes for board in totals[:2]] == [345_000_000, 512_000_000]


def test_energy_that_no_board_measured_is_no_zero(make_run, tmp_path: Path) -> None:
    run = on_boards(make_run(tmp_path / "run", versions=4))
    rows = [json.loads(line) | {"energy_j": 0.0} for line in (run / "rows.jsonl").read_text().splitlines()]
    (run / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = write_report([run], tmp_path / "report.html").read_text()
    assert "<dd>–<small>no board measured it</small></dd>" in page


def test_the_summary_names_the_boards_time() -> None:
    metrics = {
        "final": None, "rounds": 1, "virtual_time_s": 60.0, "wall_time_s": 61.0, "utilisation": 0.5, "bytes_down": 1,
        "bytes_up": 1, "energy_j": 0.0, "refused": {},
    }  # fmt: skip
    assert dict(summary(metrics, on_boards=True))["time on the boards"] == "1.0 min"
    assert dict(summary(metrics, on_boards=True))["energy of the fleet"] == "not measured"
    assert "virtual time" in dict(summary(metrics))
    assert dict(summary(metrics))["energy of the fleet"] == "0 J"
