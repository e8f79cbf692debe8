"""FedAsync (Xie et al. 2019, arXiv:1903.03934): every arrival makes a version, theta = (1 - a_s) theta + a_s theta_n.

a_s = ``alpha`` * w(s), w the staleness weight without sample counts. ``mu`` is the proximal term of its local loss.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from pydantic import Field

from cosp.merge.aggregation import ServerStep
from cosp.merge.staleness import WeightRule, unit
from cosp.methods.method import Merging, Method, Setting
from cosp.methods.one_model import OneModel
from cosp.methods.rules import Polynomial, Weighting, only_the_mean
from cosp.task.local import LocalSettings


class FedAsync(OneModel):
    """``alpha`` takes the place of ``merge.rate``; ``merge`` is not read."""

    name: Literal["fedasync"] = "fedasync"
    alpha: float = Field(0.6, gt=0, le=1)
    mu: float = Field(0.005, ge=0)
    weighting: Weighting = Polynomial()

    def build(self, setting: Setting) -> Method:
        only_the_mean(self.merge, "makes a version of every arrival")
        local = LocalSettings(proximal=self.mu)
        merging = Merging(
            weigh=by_age(self.weighting.build()),
            mass=unit(),
            step=ServerStep(rate=self.alpha),
            interpolates=True,
            quorum=1,
        )
        return replace(self.one_model(setting, self.name, local), merging=merging)


def by_age(rule: WeightRule) -> WeightRule:
    """Return ``rule`` as if every client had one sample."""
    return lambda arrival: rule(replace(arrival, samples=1))
