"""FlexLoRA (Bai et al. 2024, NeurIPS, arXiv:2402.11505): the server averages the full products B A, whatever their
ranks, and factors the mean anew by its singular values; a board receives the best of them that its rank has room for.

The mean is over samples, as there. On a semi-asynchronous server a late board's product counts as it comes: it leads
from the model as it is now. ``merge.rate`` is how far the products move towards the mean.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from cosp.merge.aggregation import ServerStep
from cosp.merge.products import Products, Refactored
from cosp.methods.low_rank import LowRank
from cosp.methods.method import Method, Setting
from cosp.methods.rules import only_the_mean


class FlexLoRA(LowRank):
    name: Literal["flexlora"] = "flexlora"

    def build(self, setting: Setting) -> Method:
        only_the_mean(self.merge, "averages products of adapters")
        ranks, step = self.ranks(setting), ServerStep(rate=self.merge.rate, momentum=self.merge.momentum)
        merging = replace(
            self.merging(),
            step=Refactored(shape=setting.model, step=step),
            products=Products(shape=setting.model, from_now=True),
        )
        return self.of_ranks(setting, name=self.name, fits=ranks, rank_of=ranks, merging=merging)
