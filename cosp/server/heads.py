"""Heads of exits in closed form: what the boards' moments give before anything is trained."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cosp.amounts import amount
from cosp.errors import ConfigError, RefusedUpdate
from cosp.merge.ridge import Head, Moments, fitted_head
from cosp.submodel.footprint import footprint
from cosp.submodel.plan import SubmodelPlan, Units
from cosp.submodel.shape import TransformerShape
from cosp.submodel.slicing import State
from cosp.task.moments import from_vector, moments_batch, moments_bytes

if TYPE_CHECKING:
    from torch import Tensor

Row = dict[str, Any]


@dataclass(frozen=True)
class Reach:
    """How far a board gets: the submodel whose exits it sums features of, and how many samples it reads at a time."""

    plan: SubmodelPlan
    batch: int


class HeadFit:
    """Sums up the moments of all boards for the ``exits``, positions within the submodel ``evaluated``.

    A board whose memory does not hold the trunk up to an exit gives the moments of those before. Sums are made in the
    order in which moments arrive, which in virtual time depends on config and seed alone.
    """

    def __init__(self, shape: TransformerShape, evaluated: SubmodelPlan, exits: Sequence[int]) -> None:
        if not exits or not set(exits) <= set(shape.exits_within(evaluated.depth)):
            raise ValueError(f"exits must be some of {shape.exits_within(evaluated.depth)}, got {tuple(exits)}")
        self.shape = shape
        self.exits = tuple(sorted(exits))
        self._evaluated = evaluated
        self._sums: dict[int, Moments] = {}
        self._clients: dict[int, set[int]] = {position: set() for position in self.exits}

    def reach(self, limit_bytes: int, words: Units | None = None) -> Reach | None:
        """Return how far a board gets that may hold ``limit_bytes`` and of the word table its own ``words``; None if
        not to the first of the exits.
        """
        held = self.shape.holding(words)
        for depth in reversed(self.exits):
            plan = SubmodelPlan(self._evaluated.blocks[:depth])
            if batch := moments_batch(held, footprint(held, plan.counts), limit_bytes):
                return Reach(plan, batch)
        return None

    def unreached(self, boards: Iterable[tuple[int, Units | None]]) -> tuple[int, ...]:
        """Return the exits that no board gets to, of ``boards`` by what they may hold and their words; ConfigError if
        all.
        """
        reaches = [reach.plan.depth for board in boards if (reach := self.reach(*board)) is not None]
        if not reaches:
            first = footprint(self.shape, SubmodelPlan(self._evaluated.blocks[: self.exits[0]]).counts)
            raise ConfigError(
                f"model.heads: ridge: no board holds the trunk up to the exit after block {self.exits[0]}, which takes "
                f"{amount(moments_bytes(self.shape, first, 1), 'bytes')}; set model.heads: fresh, or take bigger boards"
            )
        return tuple(position for position in self.exits if position > max(reaches))

    @property
    def clients(self) -> set[int]:
        """Who has given moments."""
        return self._clients[self.exits[0]]

    def take(self, client: int, depth: int, vector: Tensor, samples: int, counted: int | None = None) -> None:
        """Add a client's moments; RefusedUpdate if they are not those of so many ``samples``.

        ``counted``: as how many they count, if fewer. An empty vector is that of a dry run.
        """
        try:
            found = from_vector(vector, self.shape, depth) if vector.numel() else []
        except ValueError as error:
            raise RefusedUpdate("malformed", str(error)) from error
        moments = [Moments(squares.numpy(), classes.numpy()) for squares, classes in found]
        if any(one.samples != samples or round(float(one.classes[-1].sum())) != samples for one in moments):
            raise RefusedUpdate("malformed", f"the moments are not those of {samples} samples")
        if counted is not None and counted < samples:
            share = counted / samples
            moments = [Moments(one.squares * share, one.classes * share) for one in moments]
        by_exit = dict(zip(self.shape.exits_within(depth), moments, strict=False))
        for position in self.exits:
            if position <= depth:
                self._clients[position].add(client)
            if position in by_exit:
                known = self._sums.get(position)
                self._sums[position] = by_exit[position] if known is None else known + by_exit[position]

    def fitted(self, state: State) -> tuple[State, Row]:
        """Return ``state`` with the heads of all exits that moments came for, and what a run writes down of them."""
        found = {position: _head_of(moments) for position, moments in sorted(self._sums.items())}
        heads = {position: head for position, head in found.items() if head is not None}
        numbers = {position: i for i, position in enumerate(self.shape.exits)}
        changed = dict(state)
        for position, head in heads.items():
            for part, values in (("weight", head.weight), ("bias", head.bias)):
                changed[f"exits.{numbers[position]}.head.{part}"] = torch.from_numpy(values).float().contiguous()
        return changed, {"exits": [self._told(position, heads.get(position)) for position in self.exits]}

    def _told(self, position: int, head: Head | None) -> Row:
        """Return what came for an exit; no ``alpha`` where its head stays as it is drawn."""
        told = {"after": position, "clients": len(self._clients[position])}
        if head is None:
            return told
        fit = {"alpha": head.alpha, "error": head.error, "scale": head.scale}
        return told | {"samples": self._sums[position].samples} | fit


def _head_of(moments: Moments) -> Head | None:
    """Return the head that ``moments`` give; None if no finite one does, as of sums that no samples have."""
    try:
        with np.errstate(all="ignore"):
            head = fitted_head(moments)
    except (np.linalg.LinAlgError, ArithmeticError):
        return None
    told = np.array([head.alpha, head.error, head.scale])
    return head if all(bool(np.isfinite(values).all()) for values in (head.weight, head.bias, told)) else None
