"""The open round: updates of different shapes fold into one running sum and close into the next model version.

Coverage-normalised merge, for every scalar entry c, with A(c) the arrivals whose plan covers c:

    merged[c] = sum_{n in A(c)} gamma_n Delta_n[c] / sum_{n in A(c)} gamma_n

Entries with empty A(c) keep their value bit for bit. Memory is O(model) whatever the number of arrivals: the numerator
is one model, and the denominators are outer products of index sets, so only the plans are kept. An arrival may count in
the denominator with another weight than in the numerator, its ``mass``: with mass 1 the merge is a plain mean of
gamma * Delta (FedBuff).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from cosp.merge.scaled import add_scaled, square
from cosp.submodel.layout import Axis, Layout, ParameterLayout
from cosp.submodel.plan import GroupSizes, SubmodelPlan, mask
from cosp.submodel.slicing import State, grid, kept_indices

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Merged:
    """The weighted mean update of covered entries, and the mass of those who cover each; it broadcasts to ``delta``.

    ``drift``: how far the updates were from that mean, as a share of their length: 0 if all are the same, 1 if they
    cancel out. The root of sum m |u - mean|^2 / sum m |u|^2, m an arrival's mass, u its update times weight / mass.
    """

    delta: State
    mass: Mapping[str, Tensor]
    drift: float | None = None


class Masses(Mapping[str, "Tensor"]):
    """The mass of each tensor, found anew when it is asked for: all of them at a time would be a second model."""

    def __init__(self, names: tuple[str, ...], mass_of: Callable[[str], Tensor]) -> None:
        self._names, self._mass_of = names, mass_of

    def __getitem__(self, name: str) -> Tensor:
        return self._mass_of(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@dataclass
class OpenRound:
    """Numerator and plans of the round being filled.

    ``over_all`` divides by the mass of all arrivals (paper). ``over_moved`` counts an arrival only at entries that it
    changed, which is what weights masked one by one need; its denominators are full tensors. An entry that fewer than
    ``least`` arrivals cover keeps its value.
    """

    layout: Layout
    sizes: GroupSizes
    over_all: bool = False
    over_moved: bool = False
    least: int = 1
    _numerator: State = field(default_factory=dict)
    _moved: State = field(default_factory=dict)
    _plans: list[SubmodelPlan] = field(default_factory=list)
    _masses: list[float] = field(default_factory=list)
    _squares: float = 0.0
    """Sum of m |u|^2 so far; see ``Merged.drift``."""
    _kept: dict[tuple[int, str], np.ndarray] = field(default_factory=dict)
    """(block, group) -> (holders, units), as far as somebody asked since the last arrival."""

    @property
    def arrivals(self) -> int:
        return len(self._plans)

    def fold(
        self,
        plan: SubmodelPlan,
        delta: State,
        weight: float,
        mass: float | None = None,
        squares: float | None = None,
    ) -> None:
        """Add one update, tensors in submodel shape; ``delta`` is not kept. A dry run's has no tensors.

        ``mass`` None is ``weight``. ``squares`` is :func:`squares_of` the update, if it is known.
        """
        mass = weight if mass is None else mass
        squares = squares_of(delta) if squares is None else squares
        self._squares += squares * weight**2 / mass if mass else 0.0
        for name, change in delta.items():
            entry = self.layout[name]
            kept = kept_indices(entry, plan)
            if name not in self._numerator:
                self._numerator[name] = torch.zeros(entry.shape)
            add_scaled(self._numerator[name], kept, change, weight)
            if self.over_moved:
                if name not in self._moved:
                    self._moved[name] = torch.zeros(entry.shape, dtype=torch.float64)
                self._moved[name][grid(kept, entry.shape)] += mass * (change != 0)
        self._plans.append(plan)
        self._masses.append(mass)
        self._kept.clear()

    def close(self) -> Merged:
        """Return the merge of what has arrived; the round is over, for the numerator becomes the merge."""
        delta, self._numerator = self._numerator, {}
        masses = self._moved if self.over_moved else Masses(tuple(delta), lambda name: self._mass_of(self.layout[name]))
        shared = 0.0
        for name, total in delta.items():
            mass = masses[name]
            divisor = torch.full_like(mass, sum(self._masses)) if self.over_all else mass
            delta[name] = total / torch.where(mass > 0, divisor, 1.0).float()
            shared += float((total * delta[name]).sum(dtype=torch.float64))
        drift = math.sqrt(max(0.0, 1.0 - shared / self._squares)) if self._squares else None
        return Merged(delta, masses, drift)

    def coverage(self, block: int) -> float:
        """Return the share of the block's entries that at least ``least`` arrivals cover."""
        entries = [entry for entry in self.layout.values() if entry.block == block]
        heard = np.array([mass > 0 for plan, mass in zip(self._plans, self._masses, strict=True) if plan.depth > block])
        cut = {entry.groups for entry in entries}
        covered = {groups: self._covered(block, groups, heard) for groups in cut}
        units = {groups: math.prod(map(self.sizes.of, groups)) for groups in cut}
        sizes = [(entry.groups, math.prod(entry.shape)) for entry in entries]
        return sum(covered[groups] * size // units[groups] for groups, size in sizes) / sum(size for _, size in sizes)

    def _covered(self, block: int, groups: tuple[str, ...], heard: np.ndarray) -> int:
        """Return how many of a block's units, or pairs of two groups' units, ``least`` holders that were heard keep."""
        if heard.sum() < self.least:
            return 0
        kept = [self._kept_by_holders(block, group)[heard] for group in groups]
        together = heard.sum() if not kept else kept[0].sum(0) if len(kept) == 1 else kept[0].T @ kept[1]
        return int(np.count_nonzero(together >= self.least))

    def _mass_of(self, entry: ParameterLayout) -> Tensor:
        """Return the mass of the arrivals that cover each entry, shaped to broadcast to the parameter."""
        return self._sum_over(entry, self._masses)

    def _sum_over(self, entry: ParameterLayout, of: Sequence[float]) -> Tensor:
        """Return for each entry the sum over the arrivals that cover it of what each has in ``of``."""
        holders = self._holders(entry)
        masses = np.asarray([of[i] for i in holders])
        sliced = [d for d, axis in enumerate(entry.axes) if axis is not None and self._is_cut(entry, axis)]
        masks = [self._masks(entry, axis) for d in sliced if (axis := entry.axes[d]) is not None]
        if not masks:
            total = np.asarray(masses.sum())
        elif len(masks) == 1:
            total = masses @ masks[0]
        else:
            total = (masks[0] * masses[:, None]).T @ masks[1]
        shape = [entry.shape[d] if d in sliced else 1 for d in range(len(entry.shape))]
        return torch.from_numpy(np.ascontiguousarray(total)).view(shape)

    def _holders(self, entry: ParameterLayout) -> list[int]:
        return [i for i, plan in enumerate(self._plans) if entry.held(plan.depth)]

    def _is_cut(self, entry: ParameterLayout, axis: Axis) -> bool:
        """Say whether holders may keep some units of ``axis``: where all hold all words, a table has one mass."""
        return entry.block is not None or any(plan.words is not None for plan in self._plans)

    def _masks(self, entry: ParameterLayout, axis: Axis) -> np.ndarray:
        """Return (holders, entries along the axis) with 1 where the plan keeps the entry."""
        if entry.block is None:  # a word table's words, which belong to the whole model
            size = entry.shape[entry.axes.index(axis)]
            held = [np.ones(size) if plan.words is None else mask(plan.words, size) for plan in self._plans]
            return np.array(held, dtype=np.float64)
        return np.repeat(self._kept_by_holders(entry.block, axis.group), axis.entries, axis=1)

    def _kept_by_holders(self, block: int, group: str) -> np.ndarray:
        """Return (holders of the block, units) with 1 where the plan keeps the unit."""
        if (block, group) not in self._kept:
            size = self.sizes.of(group)
            rows = [mask(plan.blocks[block].of(group), size) for plan in self._plans if plan.depth > block]
            self._kept[block, group] = np.array(rows, dtype=np.float64).reshape(len(rows), size)
        return self._kept[block, group]


def squares_of(update: Mapping[str, Tensor]) -> float:
    """Return the update's squared length."""
    return sum(map(square, update.values()))


def is_finite(update: Mapping[str, Tensor], squares: float) -> bool:
    """Say whether all entries are finite; so they are where ``squares``, the update's, did not overflow."""
    return math.isfinite(squares) or all(bool(torch.isfinite(tensor).all()) for tensor in update.values())


@dataclass(frozen=True)
class ServerStep:
    """How the merged update moves the model: with ``momentum`` beta, m = beta * m + merged and theta += rate * m,
    at covered entries only (Hsu et al. 2019, arXiv:1909.06335, there over all entries).
    """

    rate: float = 1.0
    momentum: float = 0.0

    def apply(self, state: State, velocity: State, merged: Merged) -> tuple[State, State]:
        """Return the new model and momentum; tensors that nobody covered are the old ones themselves."""
        new_state, new_velocity = dict(state), dict(velocity)
        for name, delta in merged.delta.items():
            covered, move = merged.mass[name] > 0, delta
            if self.momentum:
                before = velocity.get(name, torch.zeros_like(delta))
                move = torch.where(covered, self.momentum * before + delta, before)
                new_velocity[name] = move
            new_state[name] = torch.where(covered, state[name] + self.rate * move, state[name])
        return new_state, new_velocity
