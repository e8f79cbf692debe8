"""FedRolex (Alam et al. 2022, arXiv:2212.01548): the window of units that a client holds advances every round.

Round j: units (j step + t) mod K for t < keep. All clients start at the same unit; their windows are as long as
their budgets. The original counts rounds of a synchronous server; here they are the server's versions.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cosp.methods.extraction import by_version, extracting
from cosp.methods.method import Method, Setting
from cosp.methods.rules import Sized
from cosp.submodel import selection


class FedRolex(Sized):
    """``step`` is by how many units the window advances a round."""

    name: Literal["fedrolex"] = "fedrolex"
    step: int = Field(1, ge=1)

    def build(self, setting: Setting) -> Method:
        rule = selection.advancing(self.step)
        return extracting(self, setting, name=self.name, rule=rule, turn=by_version)
