from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cosp.trainer.power import find_power_meter

Root = Callable[[str], Path]


def test_the_total_rail_is_read_alone(board_root: Root) -> None:
    meter = find_power_meter(board_root("jetson-orin-nano-8"))
    assert meter is not None
    assert (meter.scope, meter.read_w()) == ("VDD_IN", pytest.approx(5.0 * 1.104))


def test_a_board_without_a_total_adds_its_rails_up(board_root: Root) -> None:
    meter = find_power_meter(board_root("jetson-agx-orin-64"))
    assert meter is not None
    assert meter.scope == "VDDQ_VDD2_1V8AO + VDD_CPU_CV + VDD_GPU_SOC + VIN_SYS_5V0"  # no NC, no sum of shunt voltages
    assert meter.read_w() == pytest.approx(0.843 * 6.170 + 0.780 * 3.437 + 4.968 * 0.953 + 1.8 * 0.341)


def test_the_driver_of_jetpack_4_says_milliwatts(board_root: Root) -> None:
    meter = find_power_meter(board_root("jetson-nano"))
    assert meter is not None
    assert (meter.scope, meter.read_w()) == ("POM_5V_IN", pytest.approx(1.75))


def test_a_reading_is_of_now(board_root: Root) -> None:
    root = board_root("jetson-orin-nano-8")
    meter = find_power_meter(root)
    assert meter is not None
    (root / "sys/class/hwmon/hwmon1/curr1_input").write_text("2000\n", encoding="ascii")
    assert meter.read_w() == pytest.approx(10.0)


def test_a_sensor_that_is_gone_is_an_error_and_not_zero(board_root: Root) -> None:
    root = board_root("jetson-orin-nano-8")
    meter = find_power_meter(root)
    assert meter is not None
    (root / "sys/class/hwmon/hwmon1/curr1_input").unlink()
    with pytest.raises(ValueError, match="invalid literal"):
        meter.read_w()


def test_a_raspberry_pi_has_no_meter(board_root: Root) -> None:
    assert find_power_meter(board_root("raspberry-pi-4-8")) is None
