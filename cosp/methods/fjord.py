"""FjORD (Horvath et al. 2021, arXiv:2102.13451): nested widths, one drawn at every step, the largest as its teacher.

A client holds the first units of every group. At each step one of ``rates`` up to its own is drawn, and that smaller
submodel is trained inside it; with ``distillation`` the client's whole submodel is trained at each step too and is
the teacher. That costs more than a plain step, not less: what FjORD saves is what the client's own width saves.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import Field

from cosp.errors import ConfigError
from cosp.methods.clients import ClientRecord
from cosp.methods.extraction import WIDTH, extracting
from cosp.methods.method import Method, Setting
from cosp.methods.rules import Sized
from cosp.methods.sizing import shapes_of
from cosp.submodel import budget, selection
from cosp.submodel.budget import SubmodelShape
from cosp.submodel.plan import GROUPS, SubmodelPlan
from cosp.task.local import LocalSettings


class FjORD(Sized):
    """``rates`` are keep ratios; those that leave no submodel are passed over."""

    name: Literal["fjord"] = "fjord"
    rates: tuple[float, ...] = (0.125, 0.25, 0.5, 0.75)
    distillation: float = Field(0.5, ge=0, le=1)
    takes_checkpointing: ClassVar[bool] = False  # smaller submodels are cut out anew, not blocks of one
    takes_company: ClassVar[bool] = False

    def build(self, setting: Setting) -> Method:
        levels = [level for rate in sorted(self.rates) if (level := _shape(setting, rate, self.measure)) is not None]
        local = LocalSettings(distillation=self.distillation)

        def within_of(own: SubmodelShape) -> tuple[SubmodelPlan, ...]:
            return tuple(level.prefix(setting.model) for level in levels if _inside(level, own))

        def extra(shape: SubmodelShape) -> dict[str, Any]:
            return {"local": local, "within": within_of(shape)}

        def within(client: ClientRecord) -> tuple[SubmodelPlan, ...]:
            return within_of(shape_of(client.introduction))

        shape_of = shapes_of(setting, depth_share=WIDTH, measure=self.measure, extra=extra)
        method = extracting(self, setting, name=self.name, rule=selection.prefix, extra=extra)
        return replace(method, local=replace(method.local, steps=lambda client: local, within=within))


def _shape(setting: Setting, rate: float, measure: budget.Measure) -> SubmodelShape | None:
    try:
        return budget.shape_for_rate(
            setting.model, rate, depth_share=WIDTH, measure=measure, frozen=setting.training.left
        )
    except ConfigError:
        if not 0 < rate <= 1:
            raise
        return None


def _inside(level: SubmodelShape, own: SubmodelShape) -> bool:
    """Tell whether ``level`` is smaller than ``own`` and lies inside it."""
    fits = all(level.counts.of(group) <= own.counts.of(group) for group in GROUPS)
    return level != own and level.depth <= own.depth and fits
