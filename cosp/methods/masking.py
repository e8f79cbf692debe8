"""Methods that mask the whole model weight by weight. Boards hold, train and receive all of it: they save nothing."""

from __future__ import annotations

from collections.abc import Callable

from cosp.client.local import LocalSettings
from cosp.methods.base import Method, Setting, affordable
from cosp.methods.rules import Shared
from cosp.server.clients import ClientRecord, Introduction
from cosp.submodel import budget
from cosp.submodel.footprint import footprint


def masking(shared: Shared, setting: Setting, *, name: str, local: Callable[[ClientRecord], LocalSettings]) -> Method:
    """Return the method whose clients all train the whole model through the view that ``local`` names.

    An update counts at the weights that it changed alone.
    """
    plan = setting.model.full_plan()
    return Method(
        name=name,
        plan=lambda client: plan,
        depth=lambda client: plan.depth,
        scoring=None,
        local=local,
        over_moved=True,
        evaluated=plan,
        **shared.shared(),
    )


def kept_share(setting: Setting, client: Introduction) -> float:
    """Return the share of all weights that the client's budget allows to be on."""
    if client.keep is not None:
        return client.keep
    shape = affordable(setting, client, depth_share=0.0, measure=budget.parameters)
    held = footprint(setting.model, (shape.counts,) * shape.depth).parameters
    return held / footprint(setting.model, setting.model.full_plan().counts).parameters
