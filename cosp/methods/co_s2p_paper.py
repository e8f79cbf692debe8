"""Co-S2P to the letter of the paper and its released code (arXiv 2410.08457), as a comparator.

Depth floor(rB); one Bernoulli draw of the units by learned gates, fixed for ever; deepest exit as an undetached teacher
with an element-mean KL from round 10; drift weights; merge divided by the weight of all arrivals. Two bugs of the
released code are not kept: attention scaled by D ** -0.5, and updates against the weights of round 1.
"""

from __future__ import annotations

from typing import Literal

from cosp.errors import ConfigError
from cosp.fleet.introduction import Introduction
from cosp.methods.clients import ClientRecord
from cosp.methods.method import LocalTraining, Method, ServedModel, Setting, Submodels
from cosp.methods.rules import Drift, Merge, Settings, Weighting
from cosp.submodel import selection
from cosp.submodel.budget import SubmodelShape, exits_behind
from cosp.submodel.plan import SubmodelPlan
from cosp.task.scoring import ScoreSettings
from cosp.transfer import TransferSettings


class CoS2PPaper(Settings):
    name: Literal["co-s2p-paper"] = "co-s2p-paper"
    scoring: ScoreSettings = ScoreSettings(how="gates", refresh_dispatches=1_000_000)
    transfer: TransferSettings = TransferSettings(teacher="deepest", detach=False, reduction="mean", warmup_versions=10)
    weighting: Weighting = Drift()
    merge: Merge = Merge(normalise="all")

    def build(self, setting: Setting) -> Method:
        """Return the method for the clients of ``setting``; ConfigError under another assignment rule."""
        if setting.assignment.rule != "rate":
            raise ConfigError(f"assignment.rule: {self.name} assigns by rate alone, got {setting.assignment.rule!r}")
        if setting.assignment.takes_blocks_away:
            raise ConfigError(f"assignment.target_round_s: {self.name} assigns by rate alone; leave it out")

        def plan(client: ClientRecord) -> SubmodelPlan:
            shape = _shape(setting, client.introduction)
            rule = selection.bernoulli
            return selection.choose_plan(
                setting.model, shape, rule, scores=client.scores, seed=setting.seed, client=client.client, turn=0
            )

        return Method(
            name=self.name,
            submodels=Submodels(plan=plan, depth=lambda client: _shape(setting, client).depth, scoring=self.scoring),
            local=LocalTraining(transfer=self.transfer),
            merging=self.merge.weighed_by(self.weighting.build()),
            model=ServedModel(evaluated=setting.model.full_plan()),
        )


def _shape(setting: Setting, client: Introduction) -> SubmodelShape:
    """Return depth floor(rB), cut back to an exit; how wide the submodel is, the draw decides.

    The expected width is one unit short of everything, so that the draw is made even at r = 1, as the paper does.
    """
    model = setting.model
    keep = 1.0 if client.keep is None else client.keep
    trunk = setting.training.left.blocks
    reachable = exits_behind(model, trunk)
    reached = [position for position in reachable if position <= int(keep * model.blocks)]
    return SubmodelShape(reached[-1] if reached else reachable[0], model.sizes.scaled(0.999), trunk)
