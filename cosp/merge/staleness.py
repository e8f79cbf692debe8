"""How much an update counts in the merge: rules as closures over one arrival.

``merge`` normalises by the weights of those who cover an entry, so only ratios matter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """What a weight rule may look at. Norms cost a pass over the model, so they are computed when asked for."""

    staleness: int
    """Model versions closed since the client received its weights."""
    waited: int
    """Versions since the client last brought an update, at least 1: how seldom it is heard."""
    samples: int
    keep: float
    """Share of the global parameters that the client holds."""
    delta_l1: Callable[[], float]
    """L1 norm of the update."""
    drift_l1: Callable[[], float]
    """L1 distance between the global model now and the version that the client started from."""
    product_norm: Callable[[], float] = lambda: 0.0
    """Frobenius norm of what the client's adapters make, all B A together."""


WeightRule = Callable[[Arrival], float]


def constant() -> WeightRule:
    """Weigh by sample count whatever the age (FedAvg, McMahan et al. 2017, arXiv:1602.05629)."""
    return lambda arrival: float(arrival.samples)


def polynomial(exponent: float = 0.5, participation: float = 0.0) -> WeightRule:
    """Weigh by samples * (1 + s) ** -exponent (Xie et al. 2019, arXiv:1903.03934, where exponent is ``a``).

    With ``participation`` 1 that is multiplied by the versions since the client was last heard, so that a slow board's
    data count as much over the versions as a fast one's (Wang and Ji 2023, arXiv:2306.03401, there averaged intervals).
    """
    for name, value in (("exponent", exponent), ("participation", participation)):
        if value < 0:
            raise ValueError(f"{name} must be >= 0, got {value}")
    return lambda arrival: arrival.samples * (1 + arrival.staleness) ** -exponent * arrival.waited**participation


def hinge(slope: float = 0.5, grace: int = 2) -> WeightRule:
    """Weigh by samples, over 1 + slope * (s - grace) once s exceeds ``grace`` (arXiv:1903.03934 with +1 inside)."""
    if slope < 0 or grace < 0:
        raise ValueError(f"slope and grace must be >= 0, got {slope} and {grace}")
    return lambda arrival: arrival.samples / (1 + slope * max(0, arrival.staleness - grace))


def drift() -> WeightRule:
    """Weigh by (|update|_1 / keep) / (|global now - global received|_1 + 1): the paper's, blind to sample counts."""
    return lambda arrival: arrival.delta_l1() / arrival.keep / (arrival.drift_l1() + 1)


def unit() -> WeightRule:
    """Weigh every arrival alike."""
    return lambda arrival: 1.0
