"""Methods that train adapters on a frozen trunk that every board holds whole; they differ by ranks and by the merge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar, Literal

from cosp.amounts import amount
from cosp.errors import ConfigError
from cosp.fleet.census import one_of_each
from cosp.fleet.introduction import Introduction
from cosp.methods.assignment import KEEPS_EVERY_BLOCK
from cosp.methods.method import Merging, Method, ServedModel, Setting, Submodels, everybody
from cosp.methods.rules import Shared
from cosp.methods.sizing import for_clients, memory_of
from cosp.submodel.budget import SubmodelShape
from cosp.submodel.plan import SubmodelPlan, prefix_plan

RankOf = Callable[[Introduction], int]


class LowRank(Shared):
    """``boards``: "all" of them must hold the whole trunk and adapters of rank 1, or only the "fitting" ones take part.

    A board's rank is the largest that it can train within its budget, at most ``model.adapters.rank``. Where the budget
    is a keep ratio, it is that share of the ranks: the trunk is whole for everybody.
    """

    trains_adapters_alone: ClassVar[bool] = True

    boards: Literal["all", "fitting"] = "all"

    def ranks(self, setting: Setting) -> RankOf:
        """Return what tells the rank that a board can train, 0 if none; ConfigError names one that cannot and must."""
        rank_of = for_clients(setting, lambda client: _largest(setting, client))
        kinds = list(one_of_each(setting.clients))
        unfit = [client for client in kinds if not rank_of(client)]
        if unfit and (self.boards == "all" or len(unfit) == len(kinds)):
            raise ConfigError(_unfit(setting, unfit[0]))
        return rank_of

    def of_ranks(self, setting: Setting, *, name: str, fits: RankOf, rank_of: RankOf, merging: Merging) -> Method:
        """Return the method whose boards train ``rank_of`` ranks; who ``fits`` none sits out, or takes no part."""
        fitting = self.boards == "fitting"
        able = frozenset(client.client for client in setting.clients if fits(client)) if fitting else frozenset()

        def depth(client: Introduction) -> int:
            if not fitting and not fits(client):
                raise ConfigError(_unfit(setting, client))
            return setting.model.blocks

        return Method(
            name=name,
            submodels=Submodels(plan=lambda client: _plan(setting, max(1, rank_of(client.introduction))), depth=depth),
            local=self.training(),
            merging=merging,
            model=ServedModel(evaluated=setting.model.full_plan()),
            takes_part=(lambda client: client.client in able) if fitting else everybody,
        )


def _plan(setting: Setting, ranks: int) -> SubmodelPlan:
    return prefix_plan(replace(setting.model.sizes, ranks=ranks), setting.model.blocks)


def _largest(setting: Setting, client: Introduction) -> int:
    """Return the most ranks that the client's budget lets it train, 0 if not even one."""
    rule, most = setting.assignment, setting.model.sizes.ranks
    if rule.takes_blocks_away:
        raise ConfigError(KEEPS_EVERY_BLOCK)
    if rule.by_rate(client) and client.keep is not None:
        return max(1, int(client.keep * most))
    fits = _fits(setting, client)
    return next((rank for rank in range(most, 0, -1) if fits(rank)), 0)


def _fits(setting: Setting, client: Introduction) -> Callable[[int], bool]:
    rule, held = setting.assignment, setting.model.holding(client.words)

    def shape(ranks: int) -> SubmodelShape:
        return SubmodelShape(held.blocks, replace(held.sizes, ranks=ranks))

    if rule.rule == "time":
        demand_of, limits = rule.demand_of(client, held, setting.training), rule.limits(client)
        return lambda ranks: limits.keep(demand_of(shape(ranks)))
    bytes_of = memory_of(held, setting.training)
    limit_bytes = rule.limit_bytes(client, setting.model, setting.training)
    return lambda ranks: bytes_of(shape(ranks)) <= limit_bytes


def _unfit(setting: Setting, client: Introduction) -> str:
    held = setting.model.holding(client.words)
    least = memory_of(held, setting.training)(SubmodelShape(held.blocks, replace(held.sizes, ranks=1)))
    limit = setting.assignment.limit_bytes(client, setting.model, setting.training)
    what = (
        f"{amount(limit, 'bytes')} do not hold the frozen trunk, which is held whole, with adapters of rank 1 (they "
        f"train in {amount(least, 'bytes')})"
    )
    if limit >= least:
        what = "not even adapters of rank 1 on the whole trunk are trained within assignment.target_round_s"
    return (
        f"client {client.client} ({client.board}, {client.link}): {what}: take a smaller batch or a bigger board, or "
        "leave such boards out (method.boards: fitting)"
    )
