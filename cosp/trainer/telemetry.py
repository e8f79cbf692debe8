"""What a task took on this machine: seconds, memory, joules where the board measures its power, and how it fared.

Every measured figure has a key that starts with ``wall_``: none may enter the rows of a virtual run.
"""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch

from cosp.trainer.power import PowerMeter
from cosp.trainer.vitals import Vitals

PERIOD_S = 0.1
"""Between two readings of the power."""
LOOK_S = 1.0
"""Between two looks at how the board fares: heat changes slowly, and some sensors are slow to read."""

Reading = Tuple[float, float]
"""Seconds on a monotonic clock, watts."""

_OWN = Path("/proc/self")


class Telemetry:
    """Measures what happens while it is entered; ``facts`` afterwards:

    - ``wall_s``, and ``wall_cpu_s``: CPU time of this process, all threads added up;
    - ``wall_peak_rss_bytes``: most memory that this process held, Python and libraries included (Linux only);
    - ``wall_peak_cuda_bytes``: most memory that torch's tensors held on the GPU, if there is one;
    - ``wall_energy_j`` and ``wall_power_scope``: what the rails of ``meter`` delivered, to whatever else the board did
      too; only if there is a meter and it could be read;
    - what ``vitals`` say, if they are given.
    """

    def __init__(
        self, meter: Optional[PowerMeter], vitals: Optional[Vitals] = None, *, period_s: float = PERIOD_S
    ) -> None:
        self.facts: Dict[str, Any] = {}
        self._meter = meter
        self._vitals = vitals
        self._period_s = period_s
        self._readings: List[Reading] = []
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True) if meter or vitals else None

    def __enter__(self) -> Telemetry:
        _reset_peaks()
        if self._vitals:
            self._vitals.begin()
        self._read()
        self._started_s, self._started_cpu_s = time.perf_counter(), time.process_time()
        if self._thread:
            self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()  # first: a signal that cancels the task may end this function anywhere
        self.facts["wall_s"] = time.perf_counter() - self._started_s
        self.facts["wall_cpu_s"] = time.process_time() - self._started_cpu_s
        self.facts.update(_peaks())
        if self._thread:
            self._thread.join()
        self._read()
        if self._meter and len(self._readings) > 1:
            self.facts.update(wall_energy_j=joules(self._readings), wall_power_scope=self._meter.scope)
        if self._vitals:
            self.facts.update(self._vitals.end())

    def _sample(self) -> None:
        looked_s = time.monotonic()
        while not self._done.wait(self._period_s if self._meter else LOOK_S):
            self._read()
            if self._vitals and time.monotonic() - looked_s >= LOOK_S - self._period_s:
                looked_s = time.monotonic()
                self._vitals.look()

    def _read(self) -> None:
        if self._meter:
            with contextlib.suppress(OSError, ValueError):  # a bus is busy at times: the neighbours bridge the gap
                self._readings.append((time.monotonic(), self._meter.read_w()))


def joules(readings: Sequence[Reading]) -> float:
    """Return the energy between the first and the last reading, the power taken to be linear between two."""
    pairs = zip(readings, readings[1:])
    return sum((after_s - before_s) * (before_w + after_w) / 2 for (before_s, before_w), (after_s, after_w) in pairs)


def _reset_peaks() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):  # where it is forbidden, peaks count from the start of the process
        (_OWN / "clear_refs").write_text("5", encoding="ascii")  # resets VmHWM: man 5 proc


def _peaks() -> Dict[str, int]:
    found = {}
    if torch.cuda.is_available():
        found["wall_peak_cuda_bytes"] = torch.cuda.max_memory_allocated()
    with contextlib.suppress(OSError):
        lines = (_OWN / "status").read_text(encoding="ascii", errors="replace").splitlines()
        sizes = {key: rest for key, _, rest in (line.partition(":") for line in lines)}
        found["wall_peak_rss_bytes"] = 1024 * int(sizes["VmHWM"].split()[0])
    return found
