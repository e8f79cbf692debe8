"""FedProx (Li et al. 2020, arXiv:1812.06127): FedAvg whose clients are pulled back to what they received.

The local loss gains mu / 2 |w - received|^2. Its other half, fewer epochs for slow boards, is left out: here slow
boards arrive late instead.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cosp.methods.method import Method, Setting
from cosp.methods.one_model import OneModel
from cosp.task.local import LocalSettings


class FedProx(OneModel):
    name: Literal["fedprox"] = "fedprox"
    mu: float = Field(0.01, ge=0)

    def build(self, setting: Setting) -> Method:
        local = LocalSettings(proximal=self.mu)
        return self.one_model(setting, self.name, local)
