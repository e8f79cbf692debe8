"""HetLoRA (Cho et al. 2024, EMNLP, arXiv:2401.06432): a board trains as many ranks as it can, the first of the global
adapters, and counts by the Frobenius norm of what its adapters make, |B A|.

Taken: ranks by budget, truncation when they are sent, weights by the norm. Departed from: there a short update is
padded with zeros and averaged over everybody, which draws ranks that few hold towards zero; here an entry moves by the
mean over those that hold it. Left out: self-pruning, by which a board gives up trailing ranks that its penalised loss
has shrunk; here a board's rank follows its budget alone.
"""

from __future__ import annotations

from typing import Literal

from cosp.merge.staleness import WeightRule
from cosp.methods.low_rank import LowRank
from cosp.methods.method import Method, Setting


class HetLoRA(LowRank):
    """``by_norm`` False weighs as ``weighting`` says alone; else that is multiplied by the norm over samples."""

    name: Literal["hetlora"] = "hetlora"
    by_norm: bool = True

    def build(self, setting: Setting) -> Method:
        ranks = self.ranks(setting)
        merging = self.merge.weighed_by(self._weigh(self.weighting.build()))
        return self.of_ranks(setting, name=self.name, fits=ranks, rank_of=ranks, merging=merging)

    def _weigh(self, rule: WeightRule) -> WeightRule:
        """Return the rule with the norm in the place of the sample count."""
        if not self.by_norm:
            return rule
        return lambda arrival: rule(arrival) / arrival.samples * arrival.product_norm()
