"""Methods that give each client a submodel of its own size and differ by which units it holds."""

from __future__ import annotations

from collections.abc import Callable

from cosp.fleet.introduction import Introduction
from cosp.methods.clients import ClientRecord
from cosp.methods.method import Method, PlanRule, ServedModel, Setting, Submodels
from cosp.methods.rules import Sized
from cosp.methods.sizing import Extra, plain, shapes_of
from cosp.submodel import selection
from cosp.submodel.budget import SubmodelShape
from cosp.submodel.plan import SubmodelPlan

WIDTH, BOTH, DEPTH = 0.0, 0.5, 1.0
"""Values of ``depth_share``: which of the two dimensions is pruned."""

Turn = Callable[[ClientRecord], int]


def by_version(client: ClientRecord) -> int:
    """Count turns in rounds of the server, the same for every client that starts in one."""
    return client.version


def by_dispatch(client: ClientRecord) -> int:
    """Count turns in tasks of the client."""
    return client.dispatches


def extracting(
    sized: Sized,
    setting: Setting,
    *,
    name: str,
    rule: selection.Rule,
    depth_share: float = WIDTH,
    turn: Turn = by_dispatch,
    extra: Extra = plain,
) -> Method:
    """Return the method whose clients hold, at each turn, the units that ``rule`` chooses within their budget."""
    shape_of = shapes_of(setting, depth_share=depth_share, measure=sized.measure, extra=extra)
    return Method(
        name=name,
        submodels=Submodels(plan=plan_rule(setting, shape_of, rule, turn), depth=lambda client: shape_of(client).depth),
        local=sized.training(),
        merging=sized.merging(),
        model=ServedModel(evaluated=setting.model.full_plan()),
    )


def plan_rule(
    setting: Setting, shape_of: Callable[[Introduction], SubmodelShape], rule: selection.Rule, turn: Turn
) -> PlanRule:
    """Return who holds which units; a rule's window may start elsewhere for each client."""

    def plan(client: ClientRecord) -> SubmodelPlan:
        return selection.choose_plan(
            setting.model,
            shape_of(client.introduction),
            rule,
            scores=None,
            seed=setting.seed,
            client=client.client,
            turn=turn(client),
            start=client.client / len(setting.clients),
        )

    return plan
