"""FLoRA (Wang et al. 2024, NeurIPS, arXiv:2409.05976): boards' adapters are stacked, which is the exact mean of their
products, and folded into the weights at every version; each task begins with fresh adapters.

There a board receives the stack and folds it itself, here it receives the folded matrices: a stack is larger than
those once the ranks in it sum to more than in x out / (in + out) (192 for 384 x 384), which the stacks of the rounds
that a late board missed do. So the download is that of all adapted weights, at every task: they are frozen in a task
and never kept for the next. What is not adapted is kept.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from cosp.merge.aggregation import ServerStep
from cosp.merge.products import Folded, Products
from cosp.methods.low_rank import LowRank
from cosp.methods.method import Method, Setting
from cosp.methods.rules import only_the_mean
from cosp.submodel.low_rank import pairs_of


class FLoRA(LowRank):
    name: Literal["flora"] = "flora"

    def build(self, setting: Setting) -> Method:
        only_the_mean(self.merge, "stacks adapters")
        ranks, step = self.ranks(setting), ServerStep(rate=self.merge.rate, momentum=self.merge.momentum)
        merging = replace(
            self.merging(),
            step=Folded(shape=setting.model, seed=setting.seed, step=step),
            products=Products(shape=setting.model, from_now=False),
            changes_frozen=frozenset(pair.weight for pair in pairs_of(setting.model)),
        )
        return self.of_ranks(setting, name=self.name, fits=ranks, rank_of=ranks, merging=merging)
