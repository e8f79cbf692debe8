"""Methods whose clients all train the same model: the whole one, or the largest submodel that every board can hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

from pydantic import Field

from cosp.errors import ConfigError
from cosp.fleet.census import one_of_each
from cosp.fleet.introduction import Introduction
from cosp.methods.method import Method, ServedModel, Setting, Submodels, everybody
from cosp.methods.rules import Sized
from cosp.methods.sizing import affordable
from cosp.submodel import budget
from cosp.submodel.budget import SubmodelShape
from cosp.submodel.footprint import footprint
from cosp.submodel.plan import SubmodelPlan
from cosp.task.local import LocalSettings

PLAIN = LocalSettings()


class OneModel(Sized):
    """``submodel`` "full" ignores every board's memory; "fitting" leaves out the boards that cannot hold it all;
    "smallest" trains the weakest board's submodel everywhere, which ``depth_share`` shapes as it shapes Co-S2P's.
    """

    submodel: Literal["full", "fitting", "smallest"] = "full"
    depth_share: float = Field(0.75, ge=0, le=1)

    def one_model(self, setting: Setting, name: str, local: LocalSettings = PLAIN) -> Method:
        """Return FedAvg of this model with ``local`` steps; ConfigError if "fitting" leaves nobody."""
        shape_of = shapes(setting, self.depth_share, local, self.measure)
        smallest = self.submodel == "smallest"
        plan = smallest_plan(setting, shape_of, self.measure) if smallest else setting.model.full_plan()
        return Method(
            name=f"{name}-{self.submodel}",
            submodels=Submodels(plan=lambda client: plan, depth=lambda client: plan.depth),
            local=replace(self.training(), steps=lambda client: local),
            merging=self.merging(),
            model=ServedModel(evaluated=plan),
            takes_part=fitting(setting, shape_of) if self.submodel == "fitting" else everybody,
        )


ShapeOf = Callable[[Introduction], SubmodelShape]


def shapes(setting: Setting, depth_share: float, local: LocalSettings, measure: budget.Measure) -> ShapeOf:
    """Return what tells the shape that a client could hold."""

    def extra(shape: SubmodelShape) -> dict[str, Any]:
        return {"local": local}

    return lambda client: affordable(setting, client, depth_share=depth_share, measure=measure, extra=extra)


def fitting(setting: Setting, shape_of: ShapeOf) -> Callable[[Introduction], bool]:
    """Return who can hold the whole model; ConfigError if nobody can."""
    whole = (setting.model.sizes,) * setting.model.blocks
    able = {client.client for client in setting.clients if shape_of(client).of_blocks(setting.model) == whole}
    if not able:
        raise ConfigError(
            "method.submodel: 'fitting' leaves no board: none may hold the whole model; take 'smallest', or give a "
            "board of the fleet keep: 1.0"
        )
    return lambda client: client.client in able


def smallest_plan(setting: Setting, shape_of: ShapeOf, measure: budget.Measure) -> SubmodelPlan:
    """Return the largest submodel that every client can hold."""
    least = min(
        map(shape_of, one_of_each(setting.clients)),
        key=lambda shape: measure(footprint(setting.model, shape.of_blocks(setting.model))),
    )
    return least.prefix(setting.model)
