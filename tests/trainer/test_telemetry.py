from __future__ import annotations

import itertools
import sys
import time

import numpy as np
import pytest

from cosp.trainer.power import PowerMeter
from cosp.trainer.telemetry import Telemetry, joules


def test_energy_is_the_area_under_the_readings() -> None:
    assert joules([(0.0, 2.0), (1.0, 4.0), (4.0, 4.0)]) == 3.0 + 12.0
    assert joules([(0.0, 2.0)]) == 0.0


def test_a_steady_load_costs_its_watts_times_the_time() -> None:
    with Telemetry(PowerMeter("VDD_IN", lambda: 5.0), period_s=0.01) as telemetry:
        time.sleep(0.2)
    facts = telemetry.facts
    assert facts["wall_power_scope"] == "VDD_IN"
    assert facts["wall_energy_j"] >= 5.0 * facts["wall_s"] >= 5.0 * 0.2


def test_the_power_is_read_while_the_task_runs() -> None:
    watts = itertools.chain([1.0], itertools.repeat(9.0))
    with Telemetry(PowerMeter("VDD_IN", lambda: next(watts)), period_s=0.01) as telemetry:
        time.sleep(0.3)
    assert telemetry.facts["wall_energy_j"] > 6.0 * telemetry.facts["wall_s"]  # start and end alone: 5 W on average


def test_a_reading_that_fails_is_left_out() -> None:
    readings = iter(["5", "", "5", "", "5"] + 1000 * ["5"])
    with Telemetry(PowerMeter("VDD_IN", lambda: float(next(readings))), period_s=0.01) as telemetry:
        time.sleep(0.1)
    facts = telemetry.facts
    assert facts["wall_energy_j"] == pytest.approx(5.0 * facts["wall_s"], rel=0.5)


def test_a_dead_sensor_reports_no_energy() -> None:
    with Telemetry(PowerMeter("VDD_IN", lambda: float("")), period_s=0.01) as telemetry:
        time.sleep(0.05)
    assert "wall_energy_j" not in telemetry.facts


def test_a_board_without_a_meter_reports_no_energy() -> None:
    with Telemetry(None) as telemetry:
        pass
    assert not {"wall_energy_j", "wall_power_scope"} & telemetry.facts.keys()
    assert all(key.startswith("wall_") for key in telemetry.facts)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_peak_is_of_the_task_and_not_of_what_came_before() -> None:
    size = 2**28
    with Telemetry(None) as large:
        np.ones(size, dtype=np.uint8).sum()
    with Telemetry(None) as small:
        np.ones(2**20, dtype=np.uint8).sum()
    assert large.facts["wall_peak_rss_bytes"] - small.facts["wall_peak_rss_bytes"] > 0.8 * size


def test_the_thread_ends_with_the_task_even_if_it_raises() -> None:
    telemetry = Telemetry(PowerMeter("VDD_IN", lambda: 1.0), period_s=0.01)
    with pytest.raises(RuntimeError, match="out of memory"), telemetry:
        raise RuntimeError("out of memory")
    assert telemetry._thread is not None
    assert not telemetry._thread.is_alive()
