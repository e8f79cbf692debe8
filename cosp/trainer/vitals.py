"""How a board fares while it works: heat, throttling, clock, processor and network, from files of the kernel.

psutil reads the same files, but is not in a board's Python; so they are read here, alike everywhere. What a machine
does not tell (no sensor, no clock that can be read, no network in a container) is not reported, never guessed.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Dict, List, Optional, Tuple

DEGREES_C = (-40.0, 150.0)
"""What a sensor of a chip can mean; one that is off or broken says something else."""
CONSTANT = re.compile("pmic", re.IGNORECASE)
"""Zones that say 100 degrees whatever happens: that of a Jetson's power circuit."""
COOLED = re.compile("cpufreq|devfreq|gpu|processor|throttl|emergency|clk", re.IGNORECASE)
"""Cooling devices that take speed away; a fan takes none."""
PI_THROTTLED = "soc*/soc*firmware/get_throttled"
PI_SLOW_NOW = 0b1110
"""Bits of a Raspberry Pi's firmware: frequency capped, throttled, soft limit of temperature; all of this moment."""

Network = Tuple[int, int]
"""Bytes received and sent since the machine began."""


class Vitals:
    """Reads one board's; ``root`` is where its file system begins.

    ``begin`` a task, ``look`` now and then, ``end`` it for what was found:

    - ``wall_temperature_c``: of the hottest sensor, at its hottest;
    - ``wall_throttled_share``: of the looks, how many found the board slowed down by heat or for lack of power;
    - ``wall_frequency_hz``: of the CPU's cores, mean;
    - ``wall_cpu_share``: of all cores' time, what was not idle, whoever used it;
    - ``wall_received_bytes``, ``wall_sent_bytes``: by all network devices, since the end of the task before.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        kernel = root / "sys/class"
        zones = [path for path in sorted((kernel / "thermal").glob("thermal_zone*/temp")) if not _constant(path)]
        self._sensors = zones or sorted((kernel / "hwmon").glob("hwmon*/temp*_input"))
        self._clocks = sorted((root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))
        self._slowed = [
            path.with_name("cur_state")
            for path in sorted((kernel / "thermal").glob("cooling_device*/type"))
            if COOLED.search(_text(path))
        ]
        self._firmware = sorted((root / "sys/devices/platform").glob(PI_THROTTLED))
        self._temperatures: List[float] = []
        self._frequencies: List[float] = []
        self._throttled: List[bool] = []
        self._ticks = (0, 0)
        self._network = _network(root)

    def begin(self) -> None:
        self._temperatures, self._frequencies, self._throttled = [], [], []
        self._ticks = _ticks(self._root)
        self.look()

    def look(self) -> None:
        degrees = [value / 1000 for value in map(_number, self._sensors) if value is not None]
        self._temperatures += [value for value in degrees if DEGREES_C[0] <= value <= DEGREES_C[1]]
        self._frequencies += [1000.0 * value for value in map(_number, self._clocks) if value is not None]
        throttled = self._throttled_now()
        if throttled is not None:
            self._throttled.append(throttled)

    def end(self) -> Dict[str, float]:
        self.look()
        found: Dict[str, float] = {}
        if self._temperatures:
            found["wall_temperature_c"] = max(self._temperatures)
        if self._throttled:
            found["wall_throttled_share"] = sum(self._throttled) / len(self._throttled)
        if self._frequencies:
            found["wall_frequency_hz"] = sum(self._frequencies) / len(self._frequencies)
        busy, whole = (after - before for after, before in zip(_ticks(self._root), self._ticks))
        if whole > 0:
            found["wall_cpu_share"] = min(1.0, max(0.0, busy / whole))
        before, now = self._network, _network(self._root)
        self._network = now
        if before is not None and now is not None and now[0] >= before[0] and now[1] >= before[1]:
            found["wall_received_bytes"], found["wall_sent_bytes"] = now[0] - before[0], now[1] - before[1]
        return found

    def _throttled_now(self) -> Optional[bool]:
        """Say whether something takes speed away now; None where nothing here can tell."""
        told = [state > 0 for state in map(_number, self._slowed) if state is not None]
        for path in self._firmware:
            with contextlib.suppress(ValueError):
                told.append(bool(int(_text(path), 16) & PI_SLOW_NOW))
        return any(told) if told else None


def _constant(temperature: Path) -> bool:
    return bool(CONSTANT.search(_text(temperature.with_name("type"))))


def _ticks(root: Path) -> Tuple[int, int]:
    """Return how long all cores have worked, and how long they have been there, in the kernel's ticks."""
    words = _text(root / "proc/stat").partition("\n")[0].split()
    if len(words) < 6 or words[0] != "cpu":
        return 0, 0
    spent = [int(word) for word in words[1:9]]  # the time of guests, behind it, is in the first two already
    return sum(spent) - spent[3] - spent[4], sum(spent)  # but for idle and for waiting for a disk


def _network(root: Path) -> Optional[Network]:
    """Return what all devices but the loopback have received and sent; None where there is no other."""
    found = []
    for line in _text(root / "proc/net/dev").splitlines()[2:]:
        name, _, figures = line.partition(":")
        words = figures.split()
        if name.strip() != "lo" and len(words) >= 9:
            found.append((int(words[0]), int(words[8])))
    return (sum(got for got, _ in found), sum(sent for _, sent in found)) if found else None


def _number(path: Path) -> Optional[int]:
    """Return the number that a file holds; None while its sensor cannot be read."""
    try:
        return int(_text(path))
    except ValueError:
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:  # a sensor that is off says so by an error
        return ""
