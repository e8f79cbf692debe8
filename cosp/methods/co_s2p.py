"""Co-S2P as we run it (Li et al., arXiv 2410.08457; docs/method.md says where we depart).

Two-dimensional submodels, core + rolling units by Taylor scores, a balanced loss, a teacher that is the mean of all
exits now and as received, compressed messages, sample counts weighed by age and by how seldom a client is heard,
coverage-normalised merge.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from pydantic import Field

from cosp.fleet.introduction import Introduction
from cosp.methods.clients import ClientRecord
from cosp.methods.method import LocalTraining, Method, PlanRule, ServedModel, Setting, Submodels
from cosp.methods.rules import Budget, Merge, Polynomial, Settings, Weighting
from cosp.methods.sizing import shapes_of
from cosp.submodel import selection
from cosp.submodel.budget import MEASURES, SubmodelShape
from cosp.submodel.plan import SubmodelPlan
from cosp.task.compression import CompressionSettings
from cosp.task.scoring import ScoreSettings
from cosp.transfer import TransferSettings

Units = Literal["core_rolling", "top", "rolling", "random", "gumbel", "bernoulli", "prefix"]

DATA_FREE: tuple[Units, ...] = ("rolling", "random", "prefix")


class CoS2P(Settings):
    """``core_share`` is the part of a submodel that stays on the client's best units; ``depth_share`` splits pruning
    between depth (1) and width (0), unless a target round time decides; ``stagger`` spreads the clients' rolling
    windows; ``balanced`` is explained at ``cosp.transfer.log_class_shares``.
    """

    name: Literal["co-s2p"] = "co-s2p"
    units: Units = "core_rolling"
    core_share: float = Field(0.5, ge=0, le=1)
    stagger: bool = True
    depth_share: float = Field(0.75, ge=0, le=1)
    budget: Budget = "parameters"
    scoring: ScoreSettings = ScoreSettings()
    transfer: TransferSettings = TransferSettings(received=0.5)
    compression: CompressionSettings = CompressionSettings(down="float16", up="int8")
    balanced: bool = True
    weighting: Weighting = Polynomial(participation=1.0)
    merge: Merge = Merge(rate=0.7)

    def build(self, setting: Setting) -> Method:
        """Return the method for the clients of ``setting``; ConfigError if a client can hold no submodel."""
        shape_of = shapes_of(setting, depth_share=self.depth_share, measure=MEASURES[self.budget])
        return Method(
            name=self.name,
            submodels=Submodels(
                plan=self._plan_rule(setting, shape_of),
                depth=lambda client: shape_of(client).depth,
                scoring=None if self.units in DATA_FREE else self.scoring,
                chooses=lambda client: shape_of(client).counts != setting.model.sizes,
            ),
            local=LocalTraining(transfer=self.transfer, compression=self.compression, balanced=self.balanced),
            merging=self.merge.weighed_by(self.weighting.build()),
            model=ServedModel(evaluated=setting.model.full_plan()),
        )

    def _plan_rule(self, setting: Setting, shape_of: Callable[[Introduction], SubmodelShape]) -> PlanRule:
        rules = {"core_rolling": selection.core_rolling(self.core_share)}
        rule = rules.get(self.units) or getattr(selection, self.units)
        fixed = self.units == "bernoulli"  # one draw for ever

        def plan(client: ClientRecord) -> SubmodelPlan:
            return selection.choose_plan(
                setting.model,
                shape_of(client.introduction),
                rule,
                scores=client.scores,
                seed=setting.seed,
                client=client.client,
                turn=0 if fixed else client.dispatches,
                start=client.client / len(setting.clients) if self.stagger else 0.0,
            )

        return plan
