"""Merges that a few hostile arrivals do not rule, each over those who cover an entry.

Two kinds. Some weigh whole updates anew, by what they share with others (Krum, the norm filter, the geometric median),
and leave the rest to the coverage-normalised mean. Some look at each entry by itself (trimmed mean, median).

``attackers`` is the share of arrivals that may be hostile: f of n are expected, rounded up, but never more than leave
an honest majority.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from cosp.merge.arrived import Arrived

if TYPE_CHECKING:
    from torch import Tensor

RuleName = Literal["mean", "trimmed_mean", "median", "krum", "multi_krum", "norm_filter", "geometric_median"]

LEAST = 3
"""Arrivals that must cover an entry for a robust rule to move it: of two nobody can say which one lies."""
STEPS, CLOSE = 50, 1e-4
"""Of the geometric median: steps at most, and the share by which weights may still change at its end."""
NEAR = 1e-6
"""Times the median norm below which a distance to the geometric median is taken as that, as its inverse weighs."""

Weigh = Callable[[Arrived], "Tensor"]
"""What each arrival counts in the mean, (arrivals,) doubles; 0: not at all."""
Combine = Callable[["Tensor", "Tensor"], "Tensor"]
"""(values (arrivals, entries), NaN where one does not cover; masses (arrivals,)) -> what is merged at each entry."""


@dataclass(frozen=True, kw_only=True)
class Robust:
    """A robust rule: ``needs`` so many arrivals, and weighs them or combines them entry by entry."""

    name: str
    needs: int
    weigh: Weigh | None = None
    combine: Combine | None = None


def robust(name: RuleName, attackers: float) -> Robust | None:
    """Return the rule by its name, None for the plain mean."""
    return None if name == "mean" else RULES[name](attackers)


def trimmed_mean(attackers: float) -> Robust:
    """Leave out the f largest and the f smallest of those who cover an entry, take the weighted mean of the others
    (Yin et al. 2018, arXiv:1803.01498).
    """
    return Robust(name="trimmed_mean", needs=LEAST, combine=lambda values, masses: _trimmed(values, masses, attackers))


def median(attackers: float) -> Robust:
    """Take the middle one of those who cover an entry, whatever their weights; of two in the middle the mean
    (Yin et al. 2018, arXiv:1803.01498).
    """
    return Robust(
        name="median", needs=LEAST, combine=lambda values, masses: _trimmed(values, torch.ones_like(masses), 0.5)
    )


def krum(attackers: float) -> Robust:
    """Take the update that is nearest to its n - f - 2 nearest (Blanchard et al. 2017, arXiv:1703.02757).

    Ours: how far two are apart is a mean over the entries that both cover, as submodels differ in size.
    """
    return Robust(name="krum", needs=5, weigh=lambda arrived: _nearest(arrived, attackers, 1))


def multi_krum(attackers: float) -> Robust:
    """Take the mean of the n - f updates that Krum likes best."""
    return Robust(name="multi_krum", needs=5, weigh=lambda arrived: _nearest(arrived, attackers, None))


def norm_filter(attackers: float) -> Robust:
    """Leave out the f updates of the largest norms a parameter (Gupta and Vaidya 2019, arXiv:1903.08752)."""

    def weigh(arrived: Arrived) -> Tensor:
        return _only(arrived, arrived.norms(), len(arrived) - _expected(len(arrived), attackers, spare=1))

    return Robust(name="norm_filter", needs=LEAST, weigh=weigh)


def geometric_median(attackers: float) -> Robust:
    """Take the point that is nearest to all, by Weiszfeld's steps (Pillutla et al. 2022, arXiv:1912.13445).

    Ours: distances are root mean squares over the entries that an update covers.
    """

    def weigh(arrived: Arrived) -> Tensor:
        masses, norms = torch.tensor(arrived.masses, dtype=torch.float64), arrived.norms()
        nearest = max(NEAR * float(norms.median()), torch.finfo(torch.float32).tiny)

        def weights(away: Tensor) -> Tensor:
            found = masses / away.clamp_min(nearest)
            return found / found.sum().clamp_min(torch.finfo(torch.float64).tiny)

        now = weights(norms)
        for _ in range(STEPS):
            before, now = now, weights(arrived.away(now))
            if bool(((now - before).abs() <= CLOSE * before).all()):
                break
        return now

    return Robust(name="geometric_median", needs=LEAST, weigh=weigh)


RULES: dict[str, Callable[[float], Robust]] = {
    rule.__name__: rule for rule in (trimmed_mean, median, krum, multi_krum, norm_filter, geometric_median)
}
BY_SHARE = ("trimmed_mean", "krum", "multi_krum", "norm_filter")
"""Rules that ask how many may be hostile."""


def _expected(arrivals: int, attackers: float, *, spare: int) -> int:
    """Return how many of so many arrivals are taken to be hostile: at most half of those beyond ``spare``."""
    return min(math.ceil(attackers * arrivals - 1e-9), (arrivals - spare) // 2)


def _nearest(arrived: Arrived, attackers: float, wanted: int | None) -> Tensor:
    """Weigh the ``wanted`` arrivals (None: all but those expected to be hostile) that are nearest to their nearest."""
    count = len(arrived)
    hostile = _expected(count, attackers, spare=3)
    distances = arrived.distances().fill_diagonal_(0.0)
    scores = distances.sort(dim=1).values[:, : count - hostile - 1].sum(1)  # the first is its own, 0
    return _only(arrived, scores, wanted or count - hostile)


def _only(arrived: Arrived, scores: Tensor, wanted: int) -> Tensor:
    """Return the masses of the ``wanted`` arrivals of the lowest scores, 0 for all others."""
    weights = torch.zeros(len(arrived), dtype=torch.float64)
    chosen = scores.sort(stable=True).indices[:wanted]
    weights[chosen] = torch.tensor(arrived.masses, dtype=torch.float64)[chosen]
    return weights


def _trimmed(values: Tensor, masses: Tensor, share: float) -> Tensor:
    """Return the weighted mean of those who cover an entry, less ``share`` of them at either end; the middle stays."""
    ordered, order = values.sort(dim=0, stable=True)  # NaN comes last
    count = (~values.isnan()).sum(0)
    cut = torch.minimum(torch.ceil(share * count - 1e-9).long(), (count - 1) // 2)
    place = torch.arange(len(values))[:, None]
    weights = masses[order] * ((place >= cut) & (place < count - cut))
    total = weights.sum(0)
    return (weights * ordered.nan_to_num(0.0)).sum(0) / torch.where(total > 0, total, 1.0)
