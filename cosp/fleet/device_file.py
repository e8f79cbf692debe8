"""A profile as a device file of the form of ``devices/*.yaml``, so that a fleet can name it by path."""

from __future__ import annotations

from typing import Any

import yaml

from cosp.fleet.profiles import DeviceProfile

_MIB = 2**20


def device_yaml(profile: DeviceProfile, *, measured_in: str) -> str:
    """Return the file of ``profile``, whose speed was measured in the run ``measured_in``; the rest is carried over.

    The rates are written as they are, with all shares of them at 1: what a share was of is not measured.
    """
    spread, half = profile.spread, profile.half_flops_per_s
    value = {
        "title": profile.title,
        "notes": [f"Speed is what steps took in the run {measured_in}; all else is that of {profile.name}."],
        "default_mode": profile.mode,
        "calibration": profile.calibration,
        "visible_mib": _fact(profile.memory_bytes / _MIB),
        "reserved_os_mib": _fact(0.0),
        "reserved_runtime_mib": _fact(0.0),
        "eta0": _measured(1.0, spread.flops_per_s),
        **({"eta0_half": _measured(1.0, spread.half_flops_per_s)} if half else {}),
        "kappa": _measured(1.0),
        "dram_share": _measured(1.0, spread.memory_bytes_per_s),
        "overlap": profile.overlap,
        "gpu": profile.gpu,
        "half_batch": _fact(profile.half_batch),
        "launch_us": _measured(profile.launch_s * 1e6, spread.launch_s),
        "idle_w": _fact(profile.idle_w),
        "modes": {
            profile.mode: {
                "peak_gflops": _measured(profile.flops_per_s / 1e9),
                **({"peak_half_gflops": _measured(half / 1e9)} if half else {}),
                "cpu_cores": _fact(profile.cpu_cores),
                "dram_gb_s": _measured(profile.memory_bytes_per_s / 1e9),
                "cap_w": _fact(profile.load_w),
                "load_w": _fact(profile.load_w),
            }
        },
        "sources": {
            "measured": f"steps that the board trained in the run {measured_in}: {profile.calibration}",
            "carried": f"not measured: carried over from {profile.name}, mode {profile.mode}",
        },
    }
    return yaml.safe_dump(value, sort_keys=False, width=120)


def _fact(value: float) -> dict[str, Any]:
    return {"value": float(value), "source": "carried"}


def _measured(value: float, factors: tuple[float, float] = (1.0, 1.0)) -> dict[str, Any]:
    """Return a measured fact; ``factors`` on it span its range."""
    low, high = factors
    return {"value": float(value), "source": "measured", "low": float(value * low), "high": float(value * high)}
