"""A calibration as a device file of the same form as ``devices/*.yaml``, and as a table."""

from __future__ import annotations

import datetime
import math
import platform
import statistics
from typing import Any

import numpy as np
import psutil
import torch
import yaml

import cosp
from cosp.calibration.calibrate import Calibration
from cosp.fleet.profiles import load_profile
from cosp.processor import processor_name

MODE = "measured"

COLUMNS = ("model: blocks", "step", "batch", "fit", "measured", "predicted", "error")
TITLE = "Milliseconds of one step. Width x tokens: blocks x (heads, hidden units)"

IDLE_W, CAP_W = 10.0, 65.0
"""Watts that nothing measures and no board was named for: a desktop's CPU. Assumed."""


def cells(calibration: Calibration) -> list[tuple[str, ...]]:
    """Return one row a plan, the unseen ones last."""
    return [
        (
            str(case),
            case.phase if case.phase != "train" else case.optimizer,
            str(case.batch),
            "yes" if case.fitted else "no",
            f"{seconds * 1e3:.2f}",
            f"{calibration.rates.step_s(case.step) * 1e3:.2f}",
            f"{calibration.error(case, seconds):+.1%}",
        )
        for case, seconds in calibration.measured
    ]


def summary(calibration: Calibration) -> str:
    """Return how far predictions are off, in a line or two."""
    rates = calibration.rates
    parts = []
    for name, fitted in (("fitted", True), ("not fitted", False)):
        errors = calibration.errors(fitted=fitted)
        parts.append(
            f"{len(errors)} plans {name}: median error {statistics.median(errors):.1%}, worst {max(errors):.1%}"
        )
    return (
        f"{rates.flops_per_s / 1e9:.1f} GFLOP/s (half at a batch of {rates.half_batch:.2g}), "
        f"{rates.memory_bytes_per_s / 1e9:.1f} GB/s, {rates.launch_s * 1e6:.1f} us a kernel, by {calibration.clock}\n"
        + "; ".join(parts)
    )


def profile_yaml(calibration: Calibration, *, threads: int, like: str | None, today: datetime.date) -> str:
    """Return the device file. What cannot be measured here, watts, is that of the board ``like``, else assumed."""
    rates = calibration.rates
    errors = calibration.errors(fitted=False)
    off = float(np.quantile(errors, 0.9))
    peak_gflops = max(calibration.gemm_flops_per_s, _finite(rates.flops_per_s)) / 1e9
    dram_gb_s = max(calibration.copy_bytes_per_s, _finite(rates.memory_bytes_per_s)) / 1e9
    sustained_gflops = min(rates.flops_per_s / 1e9, peak_gflops)
    reached_gb_s = min(rates.memory_bytes_per_s / 1e9, dram_gb_s)
    visible_mib, used_mib = _memory_mib()
    watts = _watts(like)
    value: dict[str, Any] = {
        "title": f"{platform.node()}: {_processor()}, {threads} torch {'thread' if threads == 1 else 'threads'}",
        "notes": [
            "Written by `cosp calibrate`: speed is measured on this machine, low and high span nine in ten errors of "
            f"its predictions. Timed by {calibration.clock}.",
            "Watts are not measured." if like is None else f"Watts are not measured but those of {like}.",
        ],
        "default_mode": MODE,
        "calibration": (
            f"calibrated on {today.isoformat()}, median error {statistics.median(errors):.1%} "
            f"on {len(errors)} plans it was not fitted to"
        ),
        "visible_mib": _measured(visible_mib),
        "reserved_os_mib": _measured(used_mib),
        "reserved_runtime_mib": {"value": 300, "source": "assumed"},
        "eta0": _measured(sustained_gflops / peak_gflops, off, ceiling=1.0),
        "kappa": _measured(1.0),
        "dram_share": _measured(reached_gb_s / dram_gb_s, off, ceiling=1.0),
        "overlap": False,
        "gpu": torch.cuda.is_available(),
        "half_batch": _measured(rates.half_batch),
        "launch_us": _measured(rates.launch_s * 1e6, off),
        "idle_w": watts["idle_w"],
        "modes": {
            MODE: {
                "peak_gflops": _measured(peak_gflops),
                "cpu_cores": _measured(psutil.cpu_count() or 1),
                "dram_gb_s": _measured(dram_gb_s),
                **{key: fact for key, fact in watts.items() if key != "idle_w"},
            }
        },
        "sources": {
            "measured": (
                f"cosp calibrate on {today.isoformat()}, host {platform.node()}; cosp {cosp.__version__}, "
                f"torch {torch.__version__}, Python {platform.python_version()}, {platform.platform()}"
            ),
            "assumed": "general knowledge, not confirmed: override it when you know better",
        },
    }
    if like is not None:
        value["sources"]["carried"] = f"not measured: carried over from {like}"
    return yaml.safe_dump(value, sort_keys=False, width=120)


def _finite(rate: float) -> float:
    return rate if math.isfinite(rate) else 0.0


def _measured(value: float, off: float | None = None, ceiling: float = math.inf) -> dict[str, Any]:
    """Return a measured fact; ``off`` is the relative error that spans its range."""
    fact: dict[str, Any] = {"value": float(f"{value:.6g}"), "source": "measured"}
    if off is not None:
        fact["low"] = float(f"{fact['value'] / (1 + off):.6g}")
        fact["high"] = max(fact["value"], min(ceiling, float(f"{fact['value'] * (1 + off):.6g}")))
    return fact


def _watts(like: str | None) -> dict[str, Any]:
    if like is None:
        watts = {"idle_w": IDLE_W, "cap_w": CAP_W}
        return {key: {"value": value, "source": "assumed"} for key, value in watts.items()}
    board = load_profile(like)
    watts = {"idle_w": board.idle_w, "cap_w": board.load_w, "load_w": board.load_w}
    return {key: {"value": value, "source": "carried"} for key, value in watts.items()}


def _memory_mib() -> tuple[float, float]:
    """Return the memory of the machine and how much of it is in use."""
    found = psutil.virtual_memory()
    return found.total / 2**20, (found.total - found.available) / 2**20


def _processor() -> str:
    """Return what computes: the GPU's name, else the CPU's."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else processor_name()
