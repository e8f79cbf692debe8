"""Methods that mask the whole model weight by weight. Boards hold, train and receive all of it: they save nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from cosp.errors import ConfigError
from cosp.fleet.introduction import Introduction
from cosp.methods.assignment import KEEPS_EVERY_BLOCK
from cosp.methods.clients import ClientRecord
from cosp.methods.method import Method, ServedModel, Setting, Submodels
from cosp.methods.rules import Shared, only_the_mean
from cosp.methods.sizing import affordable, for_clients
from cosp.submodel import budget
from cosp.submodel.footprint import footprint
from cosp.task.local import LocalSettings

Share = Callable[[Introduction], float]


def masking(
    shared: Shared, setting: Setting, *, name: str, local: Callable[[ClientRecord, float], LocalSettings]
) -> Method:
    """Return the method whose clients all train the whole model through the view that ``local`` names.

    ``local`` is told the share of the weights that the client's budget allows to be on. An update counts at the weights
    that it changed alone.
    """
    only_the_mean(shared.merge, "merges weights one by one over those that changed them")
    plan, share_of = setting.model.full_plan(), kept_shares(setting)

    def depth(client: Introduction) -> int:
        share_of(client)  # who can afford nothing is told so before a task is made for it
        return plan.depth

    return Method(
        name=name,
        submodels=Submodels(plan=lambda client: plan, depth=depth),
        local=replace(shared.training(), steps=lambda client: local(client, share_of(client.introduction))),
        merging=replace(shared.merging(), over_moved=True),
        model=ServedModel(evaluated=plan),
    )


def kept_shares(setting: Setting, measure: budget.Measure = budget.parameters) -> Share:
    """Return what tells the share of all weights, or of what else ``measure`` counts, that a client's budget allows to
    be on or held; ConfigError under rule memory_share, which no share of weights keeps: the whole model is held to be
    masked or measured.
    """
    if setting.assignment.rule == "memory_share":
        raise ConfigError(
            "assignment.rule: the method holds the whole model on every board, which keeps no memory_share; "
            "set assignment.rule: rate for it"
        )
    if setting.assignment.takes_blocks_away:
        raise ConfigError(KEEPS_EVERY_BLOCK)

    def share(client: Introduction) -> float:
        if client.keep is not None and setting.assignment.by_rate(client):
            return client.keep
        shape = affordable(setting, client, depth_share=0.0, measure=measure)
        held = measure(footprint(setting.model, shape.of_blocks(setting.model)))
        return held / measure(footprint(setting.model, setting.model.full_plan().counts))

    return for_clients(setting, share)
