"""What a board says of how it fares: from files of the kernel, laid out under a root of the test's own."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from cosp.trainer.telemetry import Telemetry
from cosp.trainer.vitals import Vitals

NETWORK = """Inter-|   Receive                    |  Transmit
 face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier compressed
    lo: 9000000 1 0 0 0 0 0 0 9000000 1 0 0 0 0 0 0
  eth0: {received} 1 0 0 0 0 0 0 {sent} 1 0 0 0 0 0 0
"""


def write(root: Path, **files: object) -> Path:
    """Write files whose names have ``__`` for the slash and ``_C_`` for the colon."""
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_C_", ":")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n", encoding="ascii")
    return root


@pytest.fixture
def jetson(tmp_path: Path) -> Path:
    """Files as a Jetson has them: two zones, a constant one, one that is off; a fan and a governor; two cores."""
    return write(
        tmp_path,
        sys__class__thermal__thermal_zone0__type="cpu-thermal",
        sys__class__thermal__thermal_zone0__temp=41500,
        sys__class__thermal__thermal_zone1__type="gpu-thermal",
        sys__class__thermal__thermal_zone1__temp=-256000,
        sys__class__thermal__thermal_zone2__type="PMIC-Die",
        sys__class__thermal__thermal_zone2__temp=100000,
        sys__class__thermal__cooling_device0__type="pwm-fan",
        sys__class__thermal__cooling_device0__cur_state=3,
        sys__class__thermal__cooling_device1__type="cpufreq-cpu0",
        sys__class__thermal__cooling_device1__cur_state=0,
        sys__devices__system__cpu__cpu0__cpufreq__scaling_cur_freq=1000000,
        sys__devices__system__cpu__cpu1__cpufreq__scaling_cur_freq=2000000,
        proc__stat="cpu 100 0 100 800 0 0 0 0 0 0",
        proc__net__dev=NETWORK.format(received=1000, sent=500),
    )


def test_a_task_s_vitals_are_read(jetson: Path) -> None:
    vitals = Vitals(jetson)
    vitals.begin()
    write(
        jetson,
        sys__class__thermal__thermal_zone0__temp=63000,
        sys__class__thermal__cooling_device1__cur_state=2,
        proc__stat="cpu 175 0 100 825 0 0 0 0 0 0",
        proc__net__dev=NETWORK.format(received=4000, sent=1500),
    )
    assert vitals.end() == {
        "wall_temperature_c": 63.0,
        "wall_throttled_share": 0.5,
        "wall_frequency_hz": 1.5e9,
        "wall_cpu_share": 0.75,
        "wall_received_bytes": 3000,
        "wall_sent_bytes": 1000,
    }


def test_the_network_counts_from_task_to_task(jetson: Path) -> None:
    vitals = Vitals(jetson)
    vitals.begin()
    vitals.end()
    write(jetson, proc__net__dev=NETWORK.format(received=9000, sent=700))  # the next task arrives
    vitals.begin()
    found = vitals.end()
    assert (found["wall_received_bytes"], found["wall_sent_bytes"]) == (8000, 200)


def test_counters_that_began_anew_say_nothing(jetson: Path) -> None:
    vitals = Vitals(jetson)
    vitals.begin()
    write(jetson, proc__net__dev=NETWORK.format(received=5, sent=5))
    assert "wall_received_bytes" not in vitals.end()


@pytest.mark.parametrize(("bits", "slow"), [("0", 0.0), ("50005", 1.0), ("50000", 0.0), ("8", 1.0), ("1", 0.0)])
def test_a_raspberry_pi_says_so_in_bits(tmp_path: Path, bits: str, slow: float) -> None:
    write(tmp_path, sys__devices__platform__soc__soc_C_firmware__get_throttled=bits)
    vitals = Vitals(tmp_path)
    vitals.begin()
    assert vitals.end() == {"wall_throttled_share": slow}


def test_a_pc_without_zones_has_sensors_of_its_chips(tmp_path: Path) -> None:
    write(tmp_path, sys__class__hwmon__hwmon0__temp1_input=38000, sys__class__hwmon__hwmon0__temp2_input=52000)
    vitals = Vitals(tmp_path)
    vitals.begin()
    assert vitals.end() == {"wall_temperature_c": 52.0}


def test_where_nothing_can_be_read_nothing_is_said(tmp_path: Path) -> None:
    vitals = Vitals(tmp_path)
    vitals.begin()
    assert vitals.end() == {}
    write(tmp_path, proc__stat="nonsense", proc__net__dev="one\ntwo\n    lo: 1 2 3 4 5 6 7 8 9 10\n")
    vitals = Vitals(tmp_path)
    vitals.begin()
    assert vitals.end() == {}


def test_a_task_s_facts_hold_them(jetson: Path) -> None:
    with Telemetry(None, Vitals(jetson), period_s=0.01) as telemetry:
        until_s = time.process_time() + 0.05
        while time.process_time() < until_s:
            pass
    assert telemetry.facts["wall_temperature_c"] == 41.5
    assert telemetry.facts["wall_cpu_s"] >= 0.05
    assert all(key.startswith("wall_") for key in telemetry.facts)
