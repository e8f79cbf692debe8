"""PruneFL (Jiang et al. 2022, arXiv:1909.12326): one order of units for all, by squared gradient over time.

Units are taken in the order of g^2 / t, g^2 the squared gradient of the weights that a unit owns and t what it adds to
the FLOPs of a sample, while sum g^2 / (c + sum t) grows; c is the cost of what is never pruned. Every ``reconfigure``
dispatches a client measures g^2 anew, for which it holds and differentiates the whole model.

Ours: units, not single weights, so that pruning really saves; a client takes the common order only as far as its
budget goes, so plans are nested; the first plan is made of the first scores to arrive, there of one chosen client's.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from cosp.fleet.census import one_of_each
from cosp.fleet.introduction import Introduction
from cosp.methods.clients import ClientRecord
from cosp.methods.masking import kept_shares
from cosp.methods.method import Method, ServedModel, Setting, Submodels
from cosp.methods.rules import Sized
from cosp.submodel.plan import SubmodelPlan
from cosp.submodel.ranking import check_budget, unit_order, within_budget, worth_their_time
from cosp.task.scoring import ScoreSettings


class PruneFL(Sized):
    takes_frozen: ClassVar[bool] = False

    name: Literal["prunefl"] = "prunefl"
    reconfigure: int = Field(10, ge=1)
    samples: int = Field(128, ge=1)

    def build(self, setting: Setting) -> Method:
        """Return the method for the clients of ``setting``; ConfigError if a client can hold no submodel."""
        model, share_of = setting.model, kept_shares(setting, self.measure)

        def depth(client: Introduction) -> int:
            check_budget(model, share_of(client), self.measure)
            return model.blocks

        for known in one_of_each(setting.clients):
            depth(known)

        def plan(client: ClientRecord) -> SubmodelPlan:
            if client.scores is None:
                raise ValueError("PruneFL plans by scores")
            order = unit_order(model, client.scores)
            worth = order[: worth_their_time(model, order, client.scores)]
            return within_budget(model, worth, client.scores, share_of(client.introduction), self.measure)

        return Method(
            name=self.name,
            submodels=Submodels(
                plan=plan,
                depth=depth,
                scoring=ScoreSettings(
                    how="squared_gradient", refresh_dispatches=self.reconfigure, samples=self.samples
                ),
                pools_scores=True,
            ),
            local=self.training(),
            merging=self.merging(),
            model=ServedModel(evaluated=model.full_plan()),
        )
