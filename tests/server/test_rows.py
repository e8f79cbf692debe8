from __future__ import annotations

from typing import Any

import pytest

from cosp.errors import RefusedUpdate
from cosp.server.rows import reported as added
from cosp.wire import door

ROW = {"task": "score", "sent_s": 10.0, "arrived_s": 16.0}
MEASURED = {"samples": 100, "wall_s": 4.0, "wall_step_s": 0.5, "wall_peak_rss_bytes": 2**20, "wall_energy_j": 30.0}
COST = {"download_s": 1.0, "compute_s": 2.0, "upload_s": 3.0, "energy_j": 4.0}


def reported(row: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
    return added(row, door.facts_of(facts, row["task"], priced="cost" in facts))


def test_a_real_board_s_row_holds_what_it_measured() -> None:
    found = reported(ROW, MEASURED)
    assert found == {
        "samples": 100,
        "download_s": 2.0,
        "compute_s": 4.0,
        "energy_j": 30.0,
        "wall_step_s": 0.5,
        "wall_peak_rss_bytes": 2**20,
    }


def test_a_board_without_a_meter_reports_no_energy() -> None:
    assert "energy_j" not in reported(ROW, {"samples": 100, "wall_s": 4.0})


VITALS = {
    "wall_cpu_s": 3.5,
    "wall_cpu_share": 0.9,
    "wall_temperature_c": 71.5,
    "wall_throttled_share": 0.25,
    "wall_frequency_hz": 1.5e9,
    "wall_received_bytes": 2**20,
    "wall_sent_bytes": 2**10,
}


def test_how_the_board_fared_is_in_its_row() -> None:
    assert VITALS.items() <= reported(ROW, {**MEASURED, **VITALS}).items()


@pytest.mark.parametrize(
    "wrong",
    [
        {"wall_temperature_c": 1e6},
        {"wall_temperature_c": float("nan")},
        {"wall_throttled_share": 1.5},
        {"wall_cpu_share": -0.1},
        {"wall_cpu_s": True},
        {"wall_frequency_hz": 1e300},
        {"wall_received_bytes": 1.5},
        {"wall_sent_bytes": -1},
    ],
)
def test_vitals_have_bounds(wrong: dict[str, Any]) -> None:
    with pytest.raises(RefusedUpdate, match=f": the facts: {next(iter(wrong))}: "):
        reported(ROW, {**MEASURED, **wrong})


def test_a_virtual_run_s_row_holds_no_measured_figure() -> None:
    assert reported(ROW, {**MEASURED, "cost": COST}) == {"samples": 100, **COST}


@pytest.mark.parametrize(
    "wrong", [{"wall_energy_j": float("nan")}, {"wall_step_s": -1}, {"wall_s": "inf"}, {"wall_s": None}]
)
def test_what_cannot_have_been_measured_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(RefusedUpdate, match=f"^(malformed|non-finite): the facts: {next(iter(wrong))}: "):
        reported(ROW, {**MEASURED, **wrong})
