"""Methods whose clients all train the same model: the whole one, or the largest submodel that every board can hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from pydantic import Field

from cosp.errors import ConfigError
from cosp.methods.base import Method, Setting, affordable
from cosp.methods.rules import Shared
from cosp.server.clients import Introduction
from cosp.submodel import budget
from cosp.submodel.budget import SubmodelShape
from cosp.submodel.footprint import footprint
from cosp.submodel.plan import SubmodelPlan, prefix_plan


class OneModel(Shared):
    """``submodel`` "full" ignores every board's memory; "fitting" leaves out the boards that cannot hold it all;
    "smallest" trains the weakest board's submodel everywhere, which ``depth_share`` shapes as it shapes Co-S2P's.
    """

    submodel: Literal["full", "fitting", "smallest"] = "full"
    depth_share: float = Field(0.75, ge=0, le=1)

    def one_model(self, setting: Setting, name: str) -> Method:
        """Return FedAvg of this model; ConfigError if "fitting" leaves nobody."""
        smallest = self.submodel == "smallest"
        plan = smallest_plan(setting, self.depth_share) if smallest else setting.model.full_plan()
        return Method(
            name=f"{name}-{self.submodel}",
            plan=lambda client: plan,
            depth=lambda client: plan.depth,
            scoring=None,
            takes_part=fitting(setting, self.depth_share) if self.submodel == "fitting" else lambda client: True,
            evaluated=plan,
            **self.shared(),
        )


def fitting(setting: Setting, depth_share: float) -> Callable[[Introduction], bool]:
    """Return who can hold the whole model; ConfigError if nobody can."""
    whole = SubmodelShape(setting.model.blocks, setting.model.sizes)
    able = {client.client for client in setting.clients if _shape(setting, client, depth_share) == whole}
    if not able:
        raise ConfigError(
            "method.submodel: 'fitting' leaves no board: none may hold the whole model; take 'smallest', or give a "
            "board of the fleet keep: 1.0"
        )
    return lambda client: client.client in able


def smallest_plan(setting: Setting, depth_share: float) -> SubmodelPlan:
    """Return the largest submodel that every client can hold."""
    shapes = [_shape(setting, client, depth_share) for client in setting.clients]
    least = min(shapes, key=lambda shape: footprint(setting.model, (shape.counts,) * shape.depth).parameters)
    return prefix_plan(least.counts, least.depth)


def _shape(setting: Setting, client: Introduction, depth_share: float) -> SubmodelShape:
    return affordable(setting, client, depth_share=depth_share, measure=budget.parameters)
