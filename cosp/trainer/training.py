"""Local training of one submodel: a fresh optimizer at every dispatch, clipping, mixed precision where asked for."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import (
    Any,
    Callable,
    ContextManager,
    Dict,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

import numpy as np
import torch
from torch import Tensor

from cosp.models.flat import FlatModel
from cosp.task.training import TrainSettings
from cosp.trainer.optimizer import SGD, Adam, Optimizer
from cosp.trainer.samples import Samples
from cosp.trainer.views import View
from cosp.transfer import TransferSettings, exit_loss, mean_prediction


class Targets(NamedTuple):
    """What a batch is trained towards: labels (b,), and what the submodel as received predicts, (b, classes)."""

    labels: Tensor
    remembered: Optional[Tensor]


Judge = Callable[[Sequence[Tensor], Targets], Tuple[Tensor, Tensor]]
"""(logits of every exit, targets) -> (loss, cross-entropy of the deepest exit)."""

Passes = Callable[[Tensor, Targets], Iterator[Tuple[Tensor, Tensor]]]
"""(samples, targets) -> one after the other, the losses of a step; with each the cross-entropy of the deepest exit."""


@dataclass(frozen=True)
class Variation:
    """What a method's local steps do beside plain training; see ``cosp.task.local``.

    ``passes`` None is one pass of the submodel, ``view`` None trains the weights that the model computes with.
    """

    view: Optional[View] = None
    proximal: float = 0.0
    passes: Optional[Callable[[Judge], Passes]] = None


PLAIN = Variation()


def train(
    model: FlatModel,
    samples: Samples,
    *,
    settings: TrainSettings,
    transfer: TransferSettings,
    version: int,
    rng: np.random.Generator,
    log_prior: Optional[Tensor] = None,
    variation: Variation = PLAIN,
    asked_at_once: int = 250,
) -> float:
    """Train ``model`` in place and return the mean cross-entropy of its deepest exit over the last epoch.

    ``log_prior`` is added to logits before they meet the labels; see :func:`cosp.transfer.log_class_shares`. Where a
    view stands before the model, the view's ``trained`` weights are trained and ``model`` ends with what they show.
    ``asked_at_once``: how many samples the submodel as received predicts at a time, where it is a teacher.
    """
    device, view = model.weights.device, variation.view
    trained = model.weights if view is None else view.trained
    received = trained.clone() if variation.proximal else trained
    if view is not None:
        view.show(model.weights)
    remembered = predictions(model, samples, transfer, asked_at_once) if transfer.remembers(version) else None
    optimizer = optimizer_of(trained, model.gradients, settings)
    precision, scaler = _mixed_precision(device, settings.precision == "mixed")

    def judge(logits: Sequence[Tensor], to: Targets) -> Tuple[Tensor, Tensor]:
        return exit_loss([z.float() for z in logits], to.labels, transfer, version, log_prior, to.remembered)

    forward = partial(model.module, again=precision) if settings.checkpointing else model.module
    passes = one_pass(forward, judge) if variation.passes is None else variation.passes(judge)
    losses: Dict[int, List[Tensor]] = {}
    for epoch, chosen in batches(len(samples.y), settings, rng):
        x = torch.from_numpy(np.asarray(samples.x[chosen])).to(device)
        y = torch.from_numpy(samples.y[chosen]).to(device)
        targets = Targets(y, None if remembered is None else remembered[torch.from_numpy(chosen)])
        if view is not None:
            view.show(model.weights)
        model.gradients.zero_()
        for loss, deepest in _under(precision, passes(x, targets)):
            scaler.scale(loss).backward()
            losses.setdefault(epoch, []).append(deepest)
        scaler.unscale_(optimizer)
        if view is not None:
            view.pull(model.gradients)
        if variation.proximal:  # mu (w - received), the gradient of mu / 2 |w - received|^2
            model.gradients.add_(trained, alpha=variation.proximal).sub_(received, alpha=variation.proximal)
        if settings.clip_norm is not None:
            _clip(model.gradients, settings.clip_norm)
        scaler.step(optimizer)
        scaler.update()
    if view is not None:
        view.show(model.weights)
    return float(torch.stack(losses[settings.epochs - 1]).mean())


def one_pass(forward: Callable[[Tensor], Sequence[Tensor]], judge: Judge) -> Passes:
    """Return the only loss of a plain step."""

    def passes(x: Tensor, targets: Targets) -> Iterator[Tuple[Tensor, Tensor]]:
        yield judge(forward(x), targets)

    return passes


@torch.no_grad()
def predictions(model: FlatModel, samples: Samples, transfer: TransferSettings, batch: int) -> Tensor:
    """Return the mean of the exits' softened predictions of every sample, (n, classes) on the model's device."""
    device, t = model.weights.device, transfer.temperature
    asked = (x for x, _ in evaluation_batches(samples, batch))
    return torch.cat([mean_prediction([z.float() for z in model.module(x.to(device))], t) for x in asked])


def evaluation_batches(samples: Samples, size: int) -> Iterator[Tuple[Tensor, Tensor]]:
    """Yield the samples in order, ``size`` at a time."""
    for start in range(0, len(samples.y), size):
        chosen = slice(start, start + size)
        yield torch.from_numpy(np.array(samples.x[chosen])), torch.from_numpy(np.array(samples.y[chosen]))


def batches(samples: int, settings: TrainSettings, rng: np.random.Generator) -> Iterator[Tuple[int, np.ndarray]]:
    """Yield (epoch, rows of a batch), each epoch in a new order."""
    for epoch in range(settings.epochs):
        order = rng.permutation(samples)
        for start in range(0, samples, settings.batch_size):
            yield epoch, order[start : start + settings.batch_size]


def _under(precision: Callable[[], ContextManager[None]], losses: Iterator[Any]) -> Iterator[Any]:
    """Yield ``losses``, each computed under ``precision``, which does not reach into the backward pass."""
    while True:
        with precision():
            found = next(losses, None)
        if found is None:
            return
        yield found


def optimizer_of(trained: Tensor, gradients: Tensor, settings: TrainSettings) -> Optimizer:
    """Return an optimizer over the one weight vector."""
    trained.grad = gradients
    if settings.optimizer == "adamw":
        return Adam([trained], settings.learning_rate, settings.weight_decay, decoupled=True)
    return SGD([trained], settings.learning_rate, settings.momentum, settings.weight_decay)


def _clip(gradients: Tensor, limit: float) -> None:
    """Scale ``gradients`` in place so that their Euclidean norm is at most ``limit``; without a device round trip."""
    gradients.mul_(torch.clamp(limit / (gradients.norm() + 1e-6), max=1.0))


def clip_each(gradients: Tensor, limit: float) -> None:
    """Do so row by row, each as one gradient of its own."""
    gradients.mul_(torch.clamp(limit / (gradients.norm(dim=1, keepdim=True) + 1e-6), max=1.0))


class _NoScaler:
    """Stands in for ``GradScaler`` where losses need no scaling."""

    def scale(self, loss: Tensor) -> Tensor:
        return loss

    def unscale_(self, optimizer: Optimizer) -> None:
        pass

    def step(self, optimizer: Optimizer) -> None:
        optimizer.step()

    def update(self) -> None:
        pass


def _mixed_precision(device: torch.device, wanted: bool) -> Tuple[Any, Any]:
    """Return a context factory and a loss scaler: bfloat16 on GPUs that have it, else scaled float16; CPU: neither."""
    if not wanted or device.type != "cuda":
        return _full_precision, _NoScaler()
    if torch.cuda.get_device_capability(device)[0] >= 8:
        return lambda: torch.autocast("cuda", dtype=torch.bfloat16), _NoScaler()
    return lambda: torch.autocast("cuda", dtype=torch.float16), torch.cuda.amp.GradScaler()


def _full_precision() -> ContextManager[None]:
    return nullcontext()
