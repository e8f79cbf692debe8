"""Views: how the weights that are trained become those that the model computes with.

A masked, scaled or drawn model computes with f(``trained``); its gradient is pulled back through f. All vectors hold a
submodel's tensors end to end. A view holds all that plain training does and more: it saves no memory, and no time.
"""

from __future__ import annotations

from typing import Callable, Dict, Optional

import torch
from torch import Tensor

from cosp.seeds import torch_stream
from cosp.submodel.flat import length, spans_of, views
from cosp.submodel.matrices import all_matrices, block_matrices, marked, signed_weights
from cosp.submodel.shape import layout_of
from cosp.task.task import Task


class View:
    """What a view promises; this one shows the weights as they are. ``trained`` starts as what was received."""

    def __init__(self, received: Tensor) -> None:
        self.trained = received.clone()

    def show(self, into: Tensor) -> None:
        """Write the weights to compute with ``into``."""
        into.copy_(self.trained)

    def pull(self, gradient: Tensor) -> None:
        """Turn the gradient of the shown weights into that of the trained ones, in place."""

    def change(self, received: Tensor) -> Tensor:
        """Return what the client sends back."""
        return self.trained - received


class Scaled(View):
    """HeteroFL's scaler: a sum over few inputs is as large as the whole model's (Diao et al. 2021, arXiv:2010.01264).

    There activations are divided by the client's width while it trains. Here each product that sums over pruned
    units is, by the share of them that is kept.
    """

    def __init__(self, received: Tensor, factors: Tensor) -> None:
        super().__init__(received)
        self.factors = factors

    def show(self, into: Tensor) -> None:
        torch.mul(self.trained, self.factors, out=into)

    def pull(self, gradient: Tensor) -> None:
        gradient.mul_(self.factors)


class Fiarse(View):
    """Weights below a threshold are off, and the threshold learns (Wu et al. 2024, arXiv:2407.19389).

    The shown weight is w M, M = 1 where |w| >= t; its gradient counts M's slope as 2 t / (|w| + t)^2 where M is 1. The
    threshold keeps the ``kept`` largest of the ``maskable`` weights as received.
    """

    def __init__(self, received: Tensor, maskable: Tensor, kept: int) -> None:
        super().__init__(received)
        self.maskable = maskable
        self.threshold = _largest(received.abs()[maskable], kept)
        self.ever_on = torch.zeros_like(maskable)

    def show(self, into: Tensor) -> None:
        on = torch.logical_or(self.trained.abs() >= self.threshold, ~self.maskable)
        self.ever_on.logical_or_(on)
        torch.mul(self.trained, on, out=into)

    def pull(self, gradient: Tensor) -> None:
        size, t = self.trained.abs(), self.threshold
        on = torch.logical_or(size >= t, ~self.maskable)
        slope = torch.where(self.maskable, 2 * t * size / (size + t).square(), torch.zeros_like(size))
        gradient.mul_(on).mul_(slope.add_(1))

    def change(self, received: Tensor) -> Tensor:
        """Return the change of weights that were ever on: decay alone is no reason to send one."""
        return (self.trained - received) * self.ever_on


class Platon(View):
    """Weights are zeroed by sensitivity times uncertainty, step by step (Zhang et al. 2022, arXiv:2206.12562).

    I = |w dL/dw|, I' its moving mean (0.85), U = |I - I'|, U' its moving mean (0.95); the ``kept`` largest I' U' of the
    ``maskable`` weights stay. A zeroed weight still gets a gradient and may come back.
    """

    def __init__(self, received: Tensor, maskable: Tensor, kept: int) -> None:
        super().__init__(received)
        self.maskable, self.kept = maskable, kept
        self.sensitivity, self.uncertainty = torch.zeros_like(received), torch.zeros_like(received)
        self.on = torch.ones_like(maskable)

    def show(self, into: Tensor) -> None:
        scores = self.sensitivity * self.uncertainty
        if bool(scores.any()):  # not before the first step
            best = scores >= _largest(scores[self.maskable], self.kept)
            self.on = torch.logical_or(best, ~self.maskable)
            self.trained.mul_(self.on)
        into.copy_(self.trained)

    def pull(self, gradient: Tensor) -> None:
        now = (self.trained * gradient).abs_()
        self.sensitivity.lerp_(now, 0.15)
        self.uncertainty.lerp_(now.sub_(self.sensitivity).abs_(), 0.05)

    def change(self, received: Tensor) -> Tensor:
        """Return the change of weights that are on at the end; of the others the client has no opinion."""
        return (self.trained - received) * self.on


class FedPM(View):
    """Frozen random weights +-c and learned chances of keeping each (Isik et al. 2023, arXiv:2209.15328).

    What is trained are scores s, p = sigmoid(s); a mask is drawn at every step, with a straight-through gradient. What
    is sent back is one drawn mask. Tensors that are not ``maskable`` stay as received.
    """

    def __init__(self, received: Tensor, maskable: Tensor, signed: Tensor, generator: torch.Generator) -> None:
        super().__init__(received)
        self.received, self.maskable, self.signed, self.generator = received.clone(), maskable, signed, generator

    def show(self, into: Tensor) -> None:
        into.copy_(torch.where(self.maskable, self.signed * self._draw(), self.received))

    def pull(self, gradient: Tensor) -> None:
        p = torch.sigmoid(self.trained)
        gradient.mul_(self.signed).mul_(p.mul_(1 - p)).mul_(self.maskable)

    def change(self, received: Tensor) -> Tensor:
        return self._draw() * self.maskable

    def _draw(self) -> Tensor:
        chances = torch.sigmoid(self.trained)
        # drawn on the CPU, where the generator lives, whatever the model's device
        return torch.bernoulli(chances.cpu(), generator=self.generator).to(chances.device)


def view_of(task: Task, received: Tensor) -> Optional[View]:
    """Return the view that ``task`` trains through, None for plain training; ``received`` is not kept."""
    build = _VIEWS.get(task.local.view)
    return None if build is None else build(task, received)


def _largest(values: Tensor, count: int) -> Tensor:
    """Return the ``count``-th largest of ``values``: that many are no smaller (more at ties)."""
    return values.kthvalue(values.numel() - min(max(count, 1), values.numel()) + 1).values


def _kept(task: Task, maskable: Tensor) -> int:
    """Return how many maskable weights stay, so that of all weights the share ``kept`` does; at least one."""
    fixed = maskable.numel() - int(maskable.sum())
    return max(1, round(task.local.kept * maskable.numel()) - fixed)


def _scaled(task: Task, received: Tensor) -> View:
    layout, spans = layout_of(task.shape), task.trained_spans
    factors = torch.ones(length(spans))
    for name, view in views(factors, spans).items():
        axes = [axis for axis in layout[name].axes if axis is not None]
        if len(axes) == 2:  # rows that are written, units that are summed over
            view.fill_(layout[name].shape[-1] / spans[name].shape[-1])
    return Scaled(received, factors.to(received.device))


def _fiarse(task: Task, received: Tensor) -> View:
    maskable = marked(task.shape, task.plan.counts, block_matrices)
    return Fiarse(received, maskable.to(received.device), _kept(task, maskable))


def _platon(task: Task, received: Tensor) -> View:
    maskable = marked(task.shape, task.plan.counts, block_matrices)
    return Platon(received, maskable.to(received.device), _kept(task, maskable))


def _fedpm(task: Task, received: Tensor) -> View:
    signed = torch.zeros(task.parameters)
    weights = signed_weights(task.shape, task.seed)
    for name, view in views(signed, spans_of(layout_of(task.shape), task.plan.counts)).items():
        if name in weights:
            view.copy_(weights[name])
    device = received.device
    maskable = marked(task.shape, task.plan.counts, all_matrices).to(device)
    generator = torch_stream(task.seed, "masks", task.client, task.version)
    return FedPM(received, maskable, signed.to(device), generator)


_VIEWS: Dict[str, Callable[[Task, Tensor], View]] = {
    "scaled": _scaled,
    "fiarse": _fiarse,
    "platon": _platon,
    "fedpm": _fedpm,
}
