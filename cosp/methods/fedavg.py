"""FedAvg (McMahan et al. 2017, arXiv:1602.05629) on one model for all clients: the whole one, whatever the boards can
hold, or the largest submodel that every board can hold.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cosp.methods.base import Method, Setting, affordable
from cosp.methods.rules import Constant, Merge, Settings, Weighting
from cosp.server.aggregation import ServerStep
from cosp.submodel import budget
from cosp.submodel.footprint import footprint
from cosp.submodel.plan import SubmodelPlan, prefix_plan
from cosp.transfer import TransferSettings


class FedAvg(Settings):
    """``submodel`` "full" ignores every board's memory; "smallest" trains the weakest board's submodel everywhere.

    ``depth_share`` shapes that submodel as it shapes Co-S2P's.
    """

    name: Literal["fedavg"] = "fedavg"
    submodel: Literal["full", "smallest"] = "full"
    depth_share: float = Field(0.75, ge=0, le=1)
    transfer: TransferSettings = TransferSettings(teacher="none")
    balanced: bool = False
    weighting: Weighting = Constant()
    merge: Merge = Merge()

    def build(self, setting: Setting) -> Method:
        plan = setting.model.full_plan() if self.submodel == "full" else smallest_plan(setting, self.depth_share)
        return Method(
            name=f"{self.name}-{self.submodel}",
            plan=lambda client: plan,
            depth=lambda client: plan.depth,
            scoring=None,
            transfer=self.transfer,
            balanced=self.balanced,
            weigh=self.weighting.build(),
            step=ServerStep(rate=self.merge.rate, momentum=self.merge.momentum),
            over_all=self.merge.normalise == "all",
            evaluated=plan,
        )


def smallest_plan(setting: Setting, depth_share: float) -> SubmodelPlan:
    """Return the largest submodel that every client can hold."""
    shapes = [affordable(setting, c, depth_share=depth_share, measure=budget.parameters) for c in setting.clients]
    least = min(shapes, key=lambda shape: footprint(setting.model, (shape.counts,) * shape.depth).parameters)
    return prefix_plan(least.counts, least.depth)
