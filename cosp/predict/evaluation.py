"""How good a trained model is, exit by exit, and what leaving early costs and saves."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cosp.checkpoints.own import Facts
from cosp.models.transformer import Transformer
from cosp.predict.answers import leaving, softmax
from cosp.predict.opened import Opened
from cosp.submodel.footprint import footprint

CONFIDENCES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
TIMED = 30
"""So many single samples are timed; the median counts."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """One way to use the model: an exit for all, or leaving where one is ``confident``.

    ``flops`` and ``ms`` are a sample's, on average, one sample at a time on one thread; ``ms`` is None where cosp does
    not compute the model, so that nobody leaves. ``shares``: how many samples leave at each exit.
    """

    name: str
    accuracy: float
    macro_f1: float
    flops: float
    ms: float | None
    shares: tuple[float, ...]


def evaluate(model: Opened, x: NDArray[Any], y: NDArray[np.int64]) -> tuple[list[Score], list[Score]]:
    """Return the scores of every exit, shallow to deep, and those of leaving at rising confidence."""
    facts = model.facts
    every = np.stack([softmax(z) for z in model.answer(x)])
    ms = None if model.module is None else exit_ms(model.module, x)
    exits = len(facts.exits)
    alone = [
        _score(f"exit {after}", y, np.full(len(y), i), every, exit_flops(facts, (after,)), ms)
        for i, after in enumerate(facts.exits)
    ]
    if exits == 1:
        return alone, []
    flops = exit_flops(facts, facts.exits)
    chosen = facts.exits.index(facts.chosen_exit)
    sure = [_score(f"confident {c:g}", y, leaving(every[: chosen + 1], c), every, flops, ms) for c in CONFIDENCES]
    return alone, sure


def _score(
    name: str, y: NDArray[np.int64], left: NDArray[Any], every: NDArray[Any], flops: Sequence[float], ms: Any
) -> Score:
    from sklearn.metrics import f1_score  # type: ignore[import-untyped]  # about a second to import

    predicted = every[left, np.arange(len(y))].argmax(-1)
    shares = np.bincount(left, minlength=len(every)) / len(y)
    costs = np.resize(np.array(flops), len(every))  # of one exit alone, or of each
    return Score(
        name=name,
        accuracy=float((predicted == y).mean()),
        macro_f1=float(f1_score(y, predicted, average="macro", labels=np.arange(every.shape[-1]), zero_division=0)),
        flops=float(shares @ costs),
        ms=None if ms is None else float(shares @ np.array(ms)),
        shares=tuple(shares.tolist()),
    )


def exit_flops(facts: Facts, exits: tuple[int, ...]) -> list[float]:
    """Return the FLOPs of a sample that leaves at each of ``exits``, those before it computed too."""
    shape: Any = facts.shape
    return [
        float(footprint(replace(shape, blocks=after, exits=exits[: i + 1]), facts.plan.counts[:after]).forward_flops)
        for i, after in enumerate(exits)
    ]


@torch.no_grad()
def exit_ms(module: Transformer, x: NDArray[Any]) -> list[float]:
    """Return the median milliseconds from a sample to the logits of each exit, one sample at a time."""
    taken = []
    for sample in x[: TIMED + 1]:
        started, times = time.perf_counter(), []
        for _ in module.in_turn(torch.from_numpy(sample[np.newaxis])):
            times.append((time.perf_counter() - started) * 1e3)
        taken.append(times)
    warm = taken[1:] or taken
    return [float(ms) for ms in np.median(np.array(warm), axis=0)]
