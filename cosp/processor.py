"""This machine's processor: its name, and how many of its cores a process may use."""

from __future__ import annotations

import platform
from pathlib import Path


def usable_cores() -> int:
    """Return the cores that this process may keep busy, at least 1: by its affinity and its container's quota.

    The variable LOKY_MAX_CPU_COUNT, where it is set, bounds them further.
    """
    from joblib import cpu_count  # type: ignore[import-untyped]  # late: it takes a while

    return int(cpu_count())


def processor_name() -> str:
    """Return the processor's name, which x86 kernels tell and ARM ones do not: then its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine() or "CPU")
