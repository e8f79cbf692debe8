"""Time real training steps on this machine and fit the cost model to them.

Some plans are fitted, others are only predicted: the error on those is what the profile promises. Steps of importance
learning and evaluation are among the latter. Runs of all plans take turns, so a disturbance hits all alike, and each
plan's time is the median of its runs.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from cosp.calibration.fit import Rates, Timing, fit
from cosp.fleet.cost import Work
from cosp.models.flat import FlatModel
from cosp.models.vit import ViTShape
from cosp.submodel.footprint import Step, footprint
from cosp.submodel.plan import SubmodelPlan, prefix_plan
from cosp.task.task import EVALUATION_BATCH
from cosp.task.training import TrainSettings
from cosp.trainer.importance import taylor_scores
from cosp.trainer.samples import Samples
from cosp.trainer.trainer import count_predictions
from cosp.trainer.training import train
from cosp.transfer import TransferSettings

RUN_S = 0.15
"""Seconds that one run of a plan should take at least."""

SHAPES = (
    ViTShape(image=28, patch=7, channels=1, classes=10, dim=64, blocks=4, heads=4, hidden=256, exits=(1, 2, 3, 4)),
    ViTShape(image=32, patch=4, channels=3, classes=10, dim=96, blocks=4, heads=4, hidden=384, exits=(1, 2, 3, 4)),
    ViTShape(image=32, patch=4, channels=3, classes=10, dim=192, blocks=6, heads=6, hidden=768, exits=(2, 4, 6)),
)

UNSEEN_SHAPE = ViTShape(
    image=8, patch=4, channels=1, classes=10, dim=64, blocks=4, heads=4, hidden=256, exits=(1, 2, 3, 4)
)
"""Of the quickstart: no plan of it is fitted."""

Phase = Literal["train", "score", "evaluate"]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One kind of step to time."""

    shape: ViTShape
    width: float
    depth: int
    batch: int
    phase: Phase = "train"
    optimizer: str = "adamw"
    fitted: bool = False

    @property
    def plan(self) -> SubmodelPlan:
        return prefix_plan(self.shape.sizes.scaled(self.width), self.depth)

    @property
    def step(self) -> Work:
        """What the cost model says that one step asks of the machine."""
        size = footprint(self.shape, self.plan.counts)
        found: dict[Phase, Callable[[], Step]] = {
            "train": lambda: size.training_step(self.batch, self.optimizer),
            "score": lambda: size.scoring_step(self.batch),
            "evaluate": lambda: size.evaluation_step(self.batch),
        }
        step = found[self.phase]()
        return Work(
            steps=1,
            batch=self.batch,
            step_flops=step.flops,
            step_bytes=step.bytes_moved,
            step_kernels=step.kernels,
            load_bytes=size.loading_bytes(self.batch),
        )

    def __str__(self) -> str:
        kept = self.plan.counts[0]
        return f"{self.shape.dim}x{self.shape.tokens}: {self.depth} x ({kept.heads}, {kept.hidden})"


def cases() -> list[Case]:
    """Return the grid: what is fitted first, then what is only predicted."""
    fitted = [
        Case(shape=shape, width=width, depth=depth, batch=batch, fitted=True)
        for shape in SHAPES
        for width, depth in ((1, shape.blocks), (1, shape.exits[0]), (0.5, shape.blocks), (0.25, shape.exits[1]))
        for batch in (4, 32)
    ]
    return fitted + [case for shape in SHAPES for case in _unseen(shape)] + _unseen(UNSEEN_SHAPE)


def _unseen(shape: ViTShape) -> list[Case]:
    return [
        Case(shape=shape, width=0.75, depth=shape.exits[-2], batch=16),
        Case(shape=shape, width=0.35, depth=shape.blocks, batch=16),
        Case(shape=shape, width=0.6, depth=shape.exits[0], batch=32),
        Case(shape=shape, width=0.5, depth=shape.exits[1], batch=8, optimizer="sgd"),
        Case(shape=shape, width=1, depth=shape.exits[1], batch=16, phase="score"),
        Case(shape=shape, width=0.5, depth=shape.exits[1], batch=EVALUATION_BATCH, phase="evaluate"),
    ]


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What was measured, what was fitted to it, and how far predictions are off."""

    rates: Rates
    measured: tuple[tuple[Case, float], ...]  # median seconds of a step
    gemm_flops_per_s: float
    copy_bytes_per_s: float
    clock: str

    def error(self, case: Case, seconds: float) -> float:
        """Return the relative error of the prediction."""
        return self.rates.step_s(case.step) / seconds - 1

    def errors(self, *, fitted: bool) -> list[float]:
        """Return the sizes of the errors on the plans that were fitted, or on the others."""
        return [abs(self.error(case, seconds)) for case, seconds in self.measured if case.fitted is fitted]


def calibrate(
    grid: Sequence[Case], *, repeats: int, threads: int, on_run: Callable[[], None] = lambda: None
) -> Calibration:
    """Time every case ``repeats`` times in turns, and fit; ``on_run`` is called after each run."""
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    alone = threads == 1 and device.type == "cpu"
    clock = time.process_time if alone else time.perf_counter
    runs = [_Run(case, device, clock) for case in grid]
    times: list[list[float]] = [[] for _ in grid]
    for _ in range(repeats):
        for run, found in zip(runs, times, strict=True):
            found.append(run())
            on_run()
    medians = [statistics.median(found) for found in times]
    timings = [Timing(step=case.step, seconds=s) for case, s in zip(grid, medians, strict=True) if case.fitted]
    return Calibration(
        rates=fit(timings),
        measured=tuple(zip(grid, medians, strict=True)),
        gemm_flops_per_s=_best_rate(device, clock, *_gemm(device)),
        copy_bytes_per_s=_best_rate(device, clock, *_copy(device)),
        clock="CPU seconds of this process" if alone else "wall-clock seconds",
    )


class _Run:
    """One case, ready to be timed: warm, and with as many steps as take ``RUN_S``."""

    def __init__(self, case: Case, device: torch.device, clock: Callable[[], float]) -> None:
        self._case, self._device, self._clock = case, device, clock
        self._steps = 2
        self()
        self._steps = max(3, min(60, round(RUN_S / self())))

    def __call__(self) -> float:
        """Return the seconds of one step, averaged over a run."""
        work = self._prepared()
        _settle(self._device)
        started = self._clock()
        work()
        _settle(self._device)
        return (self._clock() - started) / self._steps

    def _prepared(self) -> Callable[[], object]:
        case, rng = self._case, np.random.default_rng(0)
        model = FlatModel(case.shape, case.plan, self._device, trains=case.phase == "train")
        with torch.no_grad():
            model.weights.normal_(0, 0.02)
        count, image = case.batch * self._steps, (case.shape.channels, case.shape.image, case.shape.image)
        data = Samples(rng.normal(size=(count, *image)).astype(np.float32), rng.integers(0, case.shape.classes, count))
        if case.phase == "train":
            settings = TrainSettings(epochs=1, batch_size=case.batch, optimizer=case.optimizer)
            return lambda: train(model, data, settings=settings, transfer=TransferSettings(), version=0, rng=rng)
        if case.phase == "score":
            starts = range(0, count, case.batch)
            x, y = (torch.from_numpy(array) for array in data)
            batches = [(x[s : s + case.batch], y[s : s + case.batch]) for s in starts]
            return lambda: taylor_scores(model.module, batches)
        return lambda: count_predictions(model, data)


def _settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _best_rate(device: torch.device, clock: Callable[[], float], work: Callable[[], object], amount: float) -> float:
    """Return ``amount`` a second in the best of some runs: a ceiling."""
    work()
    rates = []
    for _ in range(10):
        _settle(device)
        started = clock()
        work()
        _settle(device)
        rates.append(amount / max(clock() - started, 1e-9))
    return max(rates)


def _gemm(device: torch.device) -> tuple[Callable[[], object], float]:
    """A large float32 matrix product and its FLOPs."""
    size = 1024 if device.type == "cpu" else 8192
    left = torch.ones(size, size, device=device)
    return lambda: left @ left, 2.0 * size**3


def _copy(device: torch.device) -> tuple[Callable[[], object], float]:
    """A copy that no cache holds, and the bytes that it reads and writes."""
    source = torch.ones(2**25, device=device)
    target = torch.empty_like(source)
    return lambda: target.copy_(source), 8.0 * len(source)
