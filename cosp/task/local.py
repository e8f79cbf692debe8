"""What a method's local steps do beside plain training, and what that costs.

A *view* turns the weights that are trained into those that the model computes with (``cosp.trainer.views``); *ordered*
training also trains smaller submodels inside the client's own (``cosp.trainer.ordered``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Sequence

from cosp.submodel.footprint import Footprint, Step
from cosp.submodel.passes import FLOAT_BYTES


class ViewCost(NamedTuple):
    """What a view adds to plain training, counted in vectors of the submodel's length; see ``tests/client``."""

    vectors: float
    """Held at the step's widest moment; a mask of bytes is a quarter of a vector."""
    visits: float
    """Floats read or written a weight and step."""
    kernels: int


VIEWS = {
    "plain": ViewCost(0, 0, 0),
    "scaled": ViewCost(vectors=2, visits=6, kernels=2),
    "fiarse": ViewCost(vectors=1.5, visits=34.5, kernels=20),
    "platon": ViewCost(vectors=3.5, visits=31, kernels=15),
    "fedpm": ViewCost(vectors=3.25, visits=28.5, kernels=11),
}
PROXIMAL = ViewCost(vectors=1, visits=6, kernels=2)
CUT = ViewCost(vectors=0, visits=8.5, kernels=32)  # kernels of a block, visits of the larger submodel's weights


@dataclass(frozen=True)
class LocalSettings:
    """``kept`` is the share of the weights that a masking view leaves on; ``proximal`` is FedProx's mu;
    ``distillation`` is the share of a smaller submodel's loss that it learns from the largest (ordered training);
    ``penalty`` weighs how far a model with policies or quantisers is from ``target``.
    """

    view: str = "plain"
    kept: float = 1.0
    proximal: float = 0.0
    distillation: float = 0.0
    penalty: float = 0.0
    target: float = 0.0

    def __post_init__(self) -> None:
        if self.view not in VIEWS:
            raise ValueError(f"view must be one of {tuple(VIEWS)}, got {self.view!r}")
        for name, low, high in (("kept", 0.0, 1.0), ("proximal", 0.0, float("inf")), ("distillation", 0.0, 1.0)):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} must lie in [{low:g}, {high:g}], got {getattr(self, name)}")

    def step(self, size: Footprint, within: Sequence[Footprint], batch: int, optimizer: str) -> Step:
        """Return one step on a submodel of ``size`` that holds the smaller ones ``within``, on average over draws."""
        step = _plus(size.training_step(batch, optimizer), VIEWS[self.view], size.trained)
        if self.proximal:
            step = _plus(step, PROXIMAL, size.trained)
        drawn = [one.forward_backward(batch) + cutting(size, one) for one in within]
        if not drawn:
            return step
        share = 1 / (len(drawn) + 1)  # each of them, or the submodel itself
        if not self.distillation:  # then the submodel itself is passed through only when it is drawn
            step = _sum(step, size.forward_backward(batch), -len(drawn) * share)
        for one in drawn:
            step = _sum(step, one, share)
        return step

    def training_bytes(self, size: Footprint, within: Sequence[Footprint], batch: int, optimizer: str) -> int:
        """Return peak memory of local training; a smaller submodel's weights are copies of the larger one's."""
        copies = max((one.parameters for one in within), default=0)
        vectors = VIEWS[self.view].vectors + (PROXIMAL.vectors if self.proximal else 0)
        return size.training_bytes(batch, optimizer) + round(FLOAT_BYTES * (vectors * size.trained + copies))


def cutting(size: Footprint, one: Footprint) -> Step:
    """Return what it adds to a pass of ``one`` that it is cut out of ``size`` and its gradient put back."""
    return Step(0, FLOAT_BYTES * CUT.visits * size.parameters, CUT.kernels * one.depth)


def _plus(step: Step, more: ViewCost, parameters: int) -> Step:
    return step + Step(0, FLOAT_BYTES * more.visits * parameters, more.kernels)


def _sum(step: Step, other: Step, times: float) -> Step:
    flops, moved = step.flops + times * other.flops, step.bytes_moved + times * other.bytes_moved
    return Step(flops, moved, round(step.kernels + times * other.kernels))
