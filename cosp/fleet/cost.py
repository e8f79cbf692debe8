"""What a task costs a board: seconds and joules, as a roofline of arithmetic, memory traffic and kernel launches.

``docs/cost.md`` has the formulas and how far they are off. It leaves out:

- decoding and augmentation: samples lie in memory, decoded, and are copied from there;
- heat and the server's own link, which ``live.py`` adds where a fleet has them;
- swapping (whether a plan fits the memory is asked elsewhere), and start-up of the process;
- caches: all traffic is taken to reach the memory;
- energy of the radio: a board that transfers draws its idle watts. A slowed board is charged load watts for the whole
  time, its day job's share included.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cosp.fleet.board import Board
from cosp.fleet.profiles import DeviceProfile
from cosp.fleet.speed import Speed

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, kw_only=True)
class Work:
    """What one dispatched task asks of a board, whichever board that is."""

    steps: int
    batch: int  # samples per step
    step_flops: float  # forward, backward and update of one step at that batch
    step_bytes: float  # DRAM traffic of one step
    step_kernels: int  # kernel launches of one step
    precision: str = "float32"  # of the steps, or "mixed"; what comes beside them is float32
    load_bytes: float = 0.0  # copied to bring one step's samples to the device
    extra_flops: float = 0.0  # over the whole task, beside its steps (evaluation)
    extra_bytes: float = 0.0
    extra_kernels: int = 0
    download_bytes: int = 0
    upload_bytes: int = 0

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ValueError(f"batch must be >= 1, got {self.batch}")
        for name, value in vars(self).items():
            if name != "precision" and not 0 <= value < math.inf:
                raise ValueError(f"{name} must be finite and >= 0, got {value}")


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a task took: three consecutive spans, and the energy of all three."""

    download_s: float
    compute_s: float
    upload_s: float
    energy_j: float

    @property
    def total_s(self) -> float:
        return self.download_s + self.compute_s + self.upload_s


def cost(board: Board, work: Work, jitter: float = 1.0) -> Cost:
    """Price ``work`` on ``board``; ``jitter`` multiplies the compute time, as the board's slowdown does."""
    if not 0 < jitter < math.inf:
        raise ValueError(f"jitter must be finite and > 0, got {jitter}")
    profile, link = board.profile, board.link
    compute_s = _compute_s(profile, work) * board.slowdown * jitter
    download_s, upload_s = link.download_s(work.download_bytes), link.upload_s(work.upload_bytes)
    return Cost(
        download_s=download_s,
        compute_s=compute_s,
        upload_s=upload_s,
        energy_j=task_j(board, compute_s=compute_s, transfer_s=download_s + upload_s),
    )


def task_s(speed: Speed, work: Work) -> float:
    """Seconds of a whole task on a board that declares ``speed``: ``cost(board, work).total_s`` without the board."""
    compute_s = _compute_s(speed, work) * speed.slowdown
    return speed.link.download_s(work.download_bytes) + compute_s + speed.link.upload_s(work.upload_bytes)


def task_j(board: Board, *, compute_s: float, transfer_s: float) -> float:
    """Joules of a task, or of as much of it as was done."""
    return board.profile.load_w * compute_s + idle_j(board, transfer_s)


def cost_range(board: Board, work: Work) -> tuple[Cost, Cost]:
    """Price ``work`` at the fast and at the slow end of what is known of the board; links are taken as they are."""
    fast, slow = (replace(board, profile=_at_end(board.profile, end)) for end in (1, 0))
    return cost(fast, work), cost(slow, work)


def step_s(profile: DeviceProfile | Speed, work: Work) -> float:
    """Seconds of one step: data loading, then the slowest of arithmetic, memory and launches where they overlap.

    Loading is not overlapped: the trainer has no loader process. A CPU does one thing after the other, so its parts
    add up.
    """
    loading_s = work.load_bytes / profile.memory_bytes_per_s
    parts_s = step_parts_s(profile, work).values()
    return loading_s + (max(parts_s) if profile.overlap else sum(parts_s))


def step_parts_s(profile: DeviceProfile | Speed, work: Work) -> dict[str, float]:
    """Return the seconds that one step's arithmetic, memory traffic and kernel launches take, each by itself."""
    rate = profile.flops_per_s if work.precision == "float32" else profile.half_flops_per_s
    if rate is None:
        raise ValueError("the board has no half-precision rate by which mixed steps could be priced")
    return _parts_s(profile, rate, work.batch, work.step_flops, work.step_bytes, work.step_kernels)


def _compute_s(profile: DeviceProfile | Speed, work: Work) -> float:
    """Seconds of a task's computing, undisturbed: its steps, and what comes beside them."""
    extra = work.extra_flops, work.extra_bytes, work.extra_kernels
    parts_s = _parts_s(profile, profile.flops_per_s, work.batch, *extra).values()
    return work.steps * step_s(profile, work) + (max(parts_s) if profile.overlap else sum(parts_s))


def _parts_s(
    profile: DeviceProfile | Speed, flops_per_s: float, batch: int, flops: float, moved_bytes: float, kernels: int
) -> dict[str, float]:
    """Small batches leave a GPU partly idle, by b / (b + b0)."""
    return {
        "arithmetic": flops / (flops_per_s * batch / (batch + profile.half_batch)),
        "memory": moved_bytes / profile.memory_bytes_per_s,
        "launches": kernels * profile.launch_s,
    }


def _at_end(profile: DeviceProfile, end: int) -> DeviceProfile:
    """Return the profile at the slow (0) or at the fast (1) end of its spread."""
    spread, half = profile.spread, profile.half_flops_per_s
    return replace(
        profile,
        flops_per_s=profile.flops_per_s * spread.flops_per_s[end],
        half_flops_per_s=half and half * spread.half_flops_per_s[end],
        memory_bytes_per_s=profile.memory_bytes_per_s * spread.memory_bytes_per_s[end],
        launch_s=profile.launch_s * spread.launch_s[1 - end],
    )


def idle_j(board: Board, seconds: float) -> float:
    """Joules that a board draws while it waits (or transfers) for that long."""
    return board.profile.idle_w * seconds


def jitter(rng: np.random.Generator, sigma: float) -> float:
    """Draw a lognormal factor with median 1; ``sigma`` 0 gives exactly 1 (and still draws, so streams stay aligned)."""
    if not 0 <= sigma < math.inf:
        raise ValueError(f"sigma must be finite and >= 0, got {sigma}")
    return math.exp(sigma * float(rng.standard_normal()))
