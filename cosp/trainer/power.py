"""Watts that the board itself measures, from the kernel's sensors under ``/sys``.

jetson-stats and tegrastats read the same files; taken directly they need no service and no rights, are there in a
container too, and a reading takes microseconds. A board without a sensor (a Raspberry Pi 4, some Nano images) has no
meter: its energy is then not reported, never guessed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, Optional

TOTALS = ("VDD_IN", "POM_5V_IN", "VIN")
"""Rails that carry all that a module draws: Xavier NX, Orin Nano, Orin NX and TX2; Nano; Thor. AGX boards have none."""

UNUSED = ("", "NC")

Read = Callable[[], float]
"""Returns watts; OSError or ValueError while the sensor cannot be read."""


@dataclass(frozen=True)
class PowerMeter:
    """Reads watts. ``scope`` names the rails that are added up: figures of two boards compare only if it is equal."""

    scope: str
    read_w: Read


def find_power_meter(root: Path = Path("/")) -> Optional[PowerMeter]:
    """Return the board's meter: the total where there is one, else the sum of its rails; None if it has no sensor.

    ``root`` is where the board's file system begins.
    """
    rails = {**_hwmon_rails(root), **_iio_rails(root)}
    chosen = [name for name in TOTALS if name in rails][:1] or sorted(rails)
    if not chosen:
        return None
    return PowerMeter(" + ".join(chosen), lambda: sum(rails[name]() for name in chosen))


def _hwmon_rails(root: Path) -> Dict[str, Read]:
    """Rails of the monitors INA3221 (mV and mA) and INA238 (microwatts): JetPack 5 and newer."""
    rails: Dict[str, Read] = {}
    for chip in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        name = _text(chip / "name")
        if name == "ina238" and (chip / "power1_input").is_file():
            rails["VIN"] = _product(1e-6, chip / "power1_input")
        for label in sorted(chip.glob("in*_label")) if name == "ina3221" else ():
            channel, rail = re.sub(r"\D", "", label.name), _text(label)
            volts, amperes = chip / f"in{channel}_input", chip / f"curr{channel}_input"
            if rail not in UNUSED and amperes.is_file():  # the sum of shunt voltages, channel 7, has no current
                rails[rail] = _product(1e-6, volts, amperes)
    return rails


def _iio_rails(root: Path) -> Dict[str, Read]:
    """Rails of the INA3221 under the driver of JetPack 4 (mW)."""
    rails: Dict[str, Read] = {}
    for label in sorted((root / "sys/bus/i2c/devices").glob("*/iio:device*/rail_name_*")):
        power = label.parent / f"in_power{label.name[len('rail_name_') :]}_input"
        if _text(label) not in UNUSED and power.is_file():
            rails[_text(label)] = _product(1e-3, power)
    return rails


def _product(scale: float, *files: Path) -> Read:
    def read() -> float:
        value = scale
        for file in files:
            value *= int(_text(file))
        return value

    return read


def _text(file: Path) -> str:
    return file.read_text(encoding="ascii", errors="replace").strip() if file.is_file() else ""
