"""Local training of many clients' submodels at once, a lane each: the same steps as :func:`cosp.trainer.training.train`
takes for one, on each lane's own samples in its own order.

Lanes take as many steps as their samples make; who has most is first, so that those still at it are the first lanes.
Batches of a step that are smaller than others are filled up by samples that count for nothing.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor

from cosp.models.flat import Frames
from cosp.models.lanes import LaneFrame, Lanes
from cosp.models.transformer import Transformer
from cosp.seeds import numpy_stream
from cosp.task.demand import judging_batch
from cosp.task.task import Task
from cosp.task.training import TrainSettings
from cosp.trainer.samples import ClientSamples, Samples
from cosp.trainer.training import batches, clip_each, optimizer_of
from cosp.transfer import NO_LABEL, TransferSettings, exit_loss, mean_prediction


class Side(NamedTuple):
    """One of the tasks that are trained together, whose samples those of its client are."""

    task: Task
    own: ClientSamples
    log_prior: Optional[Tensor]
    """See :func:`cosp.transfer.log_class_shares`."""


def lane_frames() -> Frames:
    """Return what keeps frames in which lanes compute."""
    return Frames(make=LaneFrame)


Batch = Tuple[Tensor, Tensor]
"""Samples (lanes, batch, ...) and labels (lanes, batch)."""


def train_sides(
    sides: Sequence[Side], weights: Tensor, frames: Frames, device: torch.device
) -> Tuple[List[Dict[str, Any]], Tensor]:
    """Train all ``sides``, which differ in client and units alone, from a row of ``weights`` each; return the facts of
    each, and how its weights changed, (sides, entries) on the CPU.
    """
    turns = sorted(range(len(sides)), key=lambda i: -len(sides[i].own.train.y))  # most steps first
    tasks, trains, tests = zip(*((sides[i].task, sides[i].own.train, sides[i].own.test) for i in turns))
    first: Task = tasks[0]
    priors = [prior for i in turns if (prior := sides[i].log_prior) is not None]
    log_priors = torch.stack(priors) if priors else None
    for task, own in zip(tasks, trains):  # under vmap nothing else would see it
        if not 0 <= own.y.min() <= own.y.max() < task.shape.classes:
            raise IndexError(f"client {task.client}: labels must lie in 0..{task.shape.classes - 1}")
    shape, frame = first.held_shape, frames.take(first.held_shape, first.plan)
    lanes = Lanes(shape, [task.plan for task in tasks], weights[turns].to(device), frame)  # type: ignore[arg-type]
    at_once = judging_batch(first)  # of each, as where it is alone: what training holds is more
    before = accuracies(lanes, tests, at_once, log_priors)
    started_s = time.perf_counter()
    losses = train_together(
        lanes,
        trains,
        settings=first.training,
        transfer=first.transfer,
        version=first.version,
        rngs=[numpy_stream(task.seed, "batches", task.client, task.version) for task in tasks],
        log_priors=log_priors,
        proximal=first.local.proximal,
        asked_at_once=at_once,
    )
    step_s = (time.perf_counter() - started_s) / sum(first.training.steps(len(own.y)) for own in trains)
    after = accuracies(lanes, tests, at_once, log_priors)
    frames.put_back(shape, first.plan, frame)
    told: List[Dict[str, Any]] = [{}] * len(sides)
    found = torch.empty_like(weights, device="cpu")
    for lane, i in enumerate(turns):
        told[i] = {
            "samples": len(trains[lane].y),
            "wall_step_s": step_s,
            "loss": losses[lane],
            "local_accuracy_received": before[lane],
            "local_accuracy_trained": after[lane],
        }
        found[i] = lanes.weights[lane].cpu() - weights[i]
    return told, found


def train_together(
    lanes: Lanes,
    samples: Sequence[Samples],
    *,
    settings: TrainSettings,
    transfer: TransferSettings,
    version: int,
    rngs: Sequence[np.random.Generator],
    log_priors: Optional[Tensor] = None,
    proximal: float = 0.0,
    asked_at_once: int = 250,
) -> List[float]:
    """Train all ``lanes`` in place; return of each the mean cross-entropy of its deepest exit over the last epoch.

    ``samples``, ``rngs`` and ``log_priors`` (lanes, classes) are the lanes', those with most samples first.
    ``proximal`` is FedProx's mu.
    """
    orders = [[chosen for _, chosen in batches(len(own.y), settings, rng)] for own, rng in zip(samples, rngs)]
    steps = [len(order) for order in orders]
    if steps != sorted(steps, reverse=True):
        raise ValueError("lanes must come in the order of their steps, most first")
    received = lanes.weights.clone() if proximal else lanes.weights
    remembered = _predictions(lanes, samples, transfer, asked_at_once) if transfer.remembers(version) else None
    optimizer = optimizer_of(lanes.weights, lanes.gradients, settings)
    losses: List[List[Tensor]] = [[] for _ in orders]
    for step in range(steps[0]):
        active = sum(count > step for count in steps)
        if active < lanes.active:
            lanes.keep_first(active)
            optimizer.keep_first(active)
        chosen = [order[step] for order in orders[:active]]
        x, y = gathered(samples[:active], chosen, lanes.weights.device)
        known = None if remembered is None else _picked(remembered, chosen, y.shape[1])
        judge = partial(_judged, transfer=transfer, version=version)
        loss, deepest = lanes.compute(judge, x, y, None if log_priors is None else log_priors[:active], known)
        lanes.backward(loss.sum())
        gradients = lanes.gradients[:active]
        if proximal:
            gradients.add_(lanes.weights[:active], alpha=proximal).sub_(received[:active], alpha=proximal)
        if settings.clip_norm is not None:
            clip_each(gradients, settings.clip_norm)
        optimizer.step()
        for own, value in zip(losses, deepest.detach()):
            own.append(value)
    lanes.keep_first(len(orders))
    last = [count - count // settings.epochs for count in steps]
    return [float(torch.stack(own[first:]).mean()) for own, first in zip(losses, last)]


def _judged(
    module: Transformer,
    x: Tensor,
    y: Tensor,
    log_prior: Optional[Tensor],
    remembered: Optional[Tensor],
    *,
    transfer: TransferSettings,
    version: int,
) -> Tuple[Tensor, Tensor]:
    return exit_loss(module(x), y, transfer, version, log_prior, remembered, filled=True)


@torch.no_grad()
def accuracies(lanes: Lanes, samples: Sequence[Samples], batch: int, log_priors: Optional[Tensor]) -> List[float]:
    """Return of each lane the accuracy of its submodel's deepest exit, ``batch`` samples of each at a time."""
    right = torch.zeros(len(samples), dtype=torch.int64)
    for chosen in _in_order(samples, batch):
        x, y = gathered(samples, chosen, lanes.weights.device)
        logits = lanes.compute(Transformer.deepest, x)
        judged = logits if log_priors is None else logits + log_priors[:, None]
        right += (judged.argmax(-1) == y).sum(1).cpu()
    return [count / max(1, len(own.y)) for count, own in zip(right.tolist(), samples)]


@torch.no_grad()
def _predictions(lanes: Lanes, samples: Sequence[Samples], transfer: TransferSettings, batch: int) -> Tensor:
    """Return the mean of the exits' softened predictions, (lanes, most samples of any, classes)."""
    asked = (gathered(samples, chosen, lanes.weights.device)[0] for chosen in _in_order(samples, batch))
    predict = partial(_mean_prediction, temperature=transfer.temperature)
    return torch.cat([lanes.compute(predict, x) for x in asked], dim=1)


def _mean_prediction(module: Transformer, x: Tensor, *, temperature: float) -> Tensor:
    return mean_prediction(module(x), temperature)


def _in_order(samples: Sequence[Samples], size: int) -> List[List[np.ndarray]]:
    """Return of each lane the rows of its samples, ``size`` at a time, none where it has no more."""
    most = max(len(own.y) for own in samples)
    return [
        [np.arange(start, max(start, min(start + size, len(own.y)))) for own in samples]
        for start in range(0, most, size)
    ]


def gathered(samples: Sequence[Samples], chosen: Sequence[np.ndarray], device: torch.device) -> Batch:
    """Return the ``chosen`` rows of each lane's samples, filled up with zeros to as many as the most."""
    width = max(map(len, chosen))
    first = np.asarray(samples[0].x[chosen[0]])
    x = np.zeros((len(chosen), width, *first.shape[1:]), first.dtype)
    y = np.full((len(chosen), width), NO_LABEL, np.int64)
    for lane, (own, rows) in enumerate(zip(samples, chosen)):
        x[lane, : len(rows)], y[lane, : len(rows)] = np.asarray(own.x[rows]), own.y[rows]
    return torch.from_numpy(x).to(device), torch.from_numpy(y).to(device)


def _picked(remembered: Tensor, chosen: Sequence[np.ndarray], width: int) -> Tensor:
    """Return (lanes, width, classes) of what is remembered of the ``chosen`` samples; anything where there is none."""
    rows = np.zeros((len(chosen), width), np.int64)
    for lane, picked in enumerate(chosen):
        rows[lane, : len(picked)] = picked
    return remembered[torch.arange(len(chosen))[:, None], torch.from_numpy(rows)]
