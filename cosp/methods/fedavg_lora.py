"""FedAvg of adapters (FedIT, Zhang et al. 2023, arXiv:2305.05644): the trunk is frozen and whole on every board, and
all train adapters of one rank, the largest that the weakest of them can. A and B are averaged apart.
"""

from __future__ import annotations

from typing import Literal

from cosp.fleet.census import one_of_each
from cosp.methods.low_rank import LowRank
from cosp.methods.method import Method, Setting


class FedAvgLoRA(LowRank):
    name: Literal["fedavg-lora"] = "fedavg-lora"

    def build(self, setting: Setting) -> Method:
        fits = self.ranks(setting)
        least = min(rank for client in one_of_each(setting.clients) if (rank := fits(client)))
        return self.of_ranks(setting, name=self.name, fits=fits, rank_of=lambda client: least, merging=self.merging())
