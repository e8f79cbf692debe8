"""FedBuff (Nguyen et al. 2022, arXiv:2106.06639): K arrivals make a version, theta += rate / K sum of w(s) Delta.

Sample counts are not used, and updates are not rebased: a stale one moves the model as far as a fresh one would, times
w(s) = (1 + s)^-0.5.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from pydantic import Field

from cosp.merge.staleness import unit
from cosp.methods.fedasync import by_age
from cosp.methods.method import Method, Setting
from cosp.methods.one_model import OneModel
from cosp.methods.rules import Polynomial, Weighting


class FedBuff(OneModel):
    """``buffer`` is K; it takes the place of ``server.quorum``."""

    name: Literal["fedbuff"] = "fedbuff"
    buffer: int = Field(4, ge=1)
    weighting: Weighting = Polynomial()

    def build(self, setting: Setting) -> Method:
        weigh = by_age(self.weighting.build())
        merging = replace(self.merging(), weigh=weigh, mass=unit(), quorum=self.buffer)
        return replace(self.one_model(setting, self.name), merging=merging)
