"""How big a client's submodel is: by its keep ratio, as a share of parameters or of training memory, by its memory, or
by its memory and a target round time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from cosp.errors import ConfigError
from cosp.fleet.introduction import Introduction
from cosp.submodel import budget, capacity
from cosp.submodel.budget import SubmodelShape
from cosp.submodel.capacity import Demand, DemandOf, Limits
from cosp.submodel.footprint import footprint
from cosp.submodel.shape import TransformerShape
from cosp.task.training import TrainSettings

Rule = Literal["rate", "memory", "memory_share", "time"]

RoundTime = Callable[[Introduction, SubmodelShape], float]
"""Seconds that a training task of that shape takes a client by what it declares; ConfigError if it declares nothing."""


KEEPS_EVERY_BLOCK = "assignment.target_round_s: makes submodels shallower, and this method keeps every block"


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """The rule of a run.

    "rate": the client's keep ratio, the paper's rule, whatever its memory; without one as "memory". "memory": as much
    as trains within its memory. "memory_share": the keep ratio is a share of the memory that plain training of the
    whole model takes, and counts all that the method holds. "time": the most capacity within its memory and
    ``target_round_s``. With the other rules a target, if there is one, makes submodels shallower: none is deeper than
    lets a task take that long, but for the first exit, which a client trains however long it takes.
    """

    rule: Rule = "rate"
    target_round_s: float = math.inf
    round_s: RoundTime | None = None  # a target needs it

    def by_rate(self, client: Introduction) -> bool:
        return self.rule == "rate" and client.keep is not None

    @property
    def timed(self) -> bool:
        """Say whether a submodel follows from how fast its client is."""
        return self.rule == "time" or self.target_round_s < math.inf

    @property
    def takes_blocks_away(self) -> bool:
        """Say whether a target makes submodels shallower than their budget does."""
        return self.rule != "time" and self.target_round_s < math.inf

    def shape(
        self,
        client: Introduction,
        model: TransformerShape,
        training: TrainSettings,
        *,
        depth_share: float,
        measure: budget.Measure,
        memory_of: budget.CostOf,
    ) -> SubmodelShape:
        """Return the shape of the client's submodel; ConfigError names the client if it can hold none.

        Rule "time" chooses depth and width itself; the others split pruning by ``depth_share``. ``memory_of``: what a
        task of the method holds at its peak. A client costs what it does with its own words, if it has some.
        """
        held, frozen = model.holding(client.words), training.left

        def within(deepest: int) -> SubmodelShape:
            """Return the widest submodel in the rule's budget, no deeper than the exit ``deepest``."""
            if self.rule == "memory_share":
                rate, limit = self._share(client), self.limit_bytes(client, model, training)
                return budget.shape_within(
                    held, rate, limit, memory_of, depth_share=depth_share, deepest=deepest, trunk=frozen.blocks
                )
            if client.keep is not None and self.rule == "rate":
                return budget.shape_for_rate(
                    model,
                    client.keep,
                    depth_share=depth_share,
                    measure=measure,
                    deepest=deepest,
                    held=held,
                    frozen=frozen,
                )
            return budget.shape_for_memory(
                held,
                client.memory_bytes,
                batch=training.batch_size,
                optimizer=training.optimizer,
                precision=training.on(client.gpu).precision,
                checkpointing=training.checkpointing,
                depth_share=depth_share,
                deepest=deepest,
                frozen=frozen,
            )

        try:
            if self.rule == "time":
                demand_of = self.demand_of(client, held, training)
                return capacity.best(held, demand_of, self.limits(client), trunk=frozen.blocks).shape
            if not self.takes_blocks_away:
                return within(model.blocks)
            if not depth_share:
                raise ConfigError(KEEPS_EVERY_BLOCK)
            first, *deeper = budget.exits_behind(model, frozen.blocks)
            for exit_after in reversed(deeper):
                shape = within(exit_after)
                if self._task_s(client, shape) <= self.target_round_s:
                    return shape
            return within(first)
        except ConfigError as error:
            raise ConfigError(f"client {client.client} ({client.board}, {client.link}): {error}") from None

    def limit_bytes(self, client: Introduction, model: TransformerShape, training: TrainSettings) -> int:
        """Return what a task of ``client`` may hold."""
        if self.rule != "memory_share":
            return client.memory_bytes
        whole = footprint(model, (model.sizes,) * model.blocks, training.on(client.gpu).precision)
        return int(self._share(client) * whole.training_bytes(training.batch_size, training.optimizer))

    def _share(self, client: Introduction) -> float:
        if client.keep is None:
            raise ConfigError("keep: is missing, rule memory_share needs it: give it, or take rule memory")
        return client.keep

    def limits(self, client: Introduction) -> Limits:
        return Limits(memory_bytes=client.memory_bytes, round_s=self.target_round_s)

    def demand_of(self, client: Introduction, model: TransformerShape, training: TrainSettings) -> DemandOf:
        """Return what tells what a submodel asks of ``client``."""
        round_s = partial(self._task_s, client)
        return partial(_demand, round_s=round_s, model=model, training=training.on(client.gpu))

    def _task_s(self, client: Introduction, shape: SubmodelShape) -> float:
        if self.round_s is None:
            raise ValueError("target_round_s needs round_s")
        return self.round_s(client, shape)


def _demand(
    shape: SubmodelShape, *, round_s: Callable[[SubmodelShape], float], model: TransformerShape, training: TrainSettings
) -> Demand:
    counts = shape.of_blocks(model)
    size = footprint(model, counts, training.precision, training.left, training.checkpointing)
    memory_bytes = size.training_bytes(training.batch_size, training.optimizer)
    return Demand(shape, size.parameters, memory_bytes, round_s(shape))
