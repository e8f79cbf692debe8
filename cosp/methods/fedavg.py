"""FedAvg (McMahan et al. 2017, arXiv:1602.05629) on one model for all clients: the whole one, whatever the boards can
hold, the whole one on the boards that can hold it, or the largest submodel that every board can hold.
"""

from __future__ import annotations

from typing import Literal

from cosp.methods.method import Method, Setting
from cosp.methods.one_model import OneModel


class FedAvg(OneModel):
    name: Literal["fedavg"] = "fedavg"

    def build(self, setting: Setting) -> Method:
        return self.one_model(setting, self.name)
