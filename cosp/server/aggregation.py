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
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from cosp.submodel.layout import Axis, Layout, ParameterLayout
from cosp.submodel.plan import GroupSizes, SubmodelPlan, mask
from cosp.submodel.slicing import State, grid, kept_indices


@dataclass(frozen=True)
class Merged:
    """The weighted mean update of covered entries, and the mass of those who cover each; it broadcasts to ``delta``."""

    delta: State
    mass: State

    @property
    def covered(self) -> State:
        """Which entries anybody covers."""
        return {name: mass > 0 for name, mass in self.mass.items()}


@dataclass
class OpenRound:
    """Numerator and plans of the round being filled.

    ``over_all`` divides by the mass of all arrivals (paper). ``over_moved`` counts an arrival only at entries that it
    changed, which is what weights masked one by one need; its denominators are full tensors.
    """

    layout: Layout
    sizes: GroupSizes
    over_all: bool = False
    over_moved: bool = False
    _numerator: State = field(default_factory=dict)
    _moved: State = field(default_factory=dict)
    _plans: list[SubmodelPlan] = field(default_factory=list)
    _masses: list[float] = field(default_factory=list)

    @property
    def arrivals(self) -> int:
        return len(self._plans)

    def fold(self, plan: SubmodelPlan, delta: State, weight: float, mass: float | None = None) -> None:
        """Add one update, tensors in submodel shape; ``delta`` is not kept. ``mass`` None is ``weight``."""
        mass = weight if mass is None else mass
        for name, entry in self.layout.items():
            if entry.held(plan.depth):
                where = grid(kept_indices(entry, plan), entry.shape)
                total = self._numerator.setdefault(name, torch.zeros(entry.shape))
                total[where] += weight * delta[name]
                if self.over_moved:
                    moved = self._moved.setdefault(name, torch.zeros(entry.shape, dtype=torch.float64))
                    moved[where] += mass * (delta[name] != 0)
        self._plans.append(plan)
        self._masses.append(mass)

    def close(self) -> Merged:
        """Return the merge of what has arrived."""
        delta: State = {}
        masses: State = {}
        for name, total in self._numerator.items():
            mass = self._moved[name] if self.over_moved else self._mass_of(self.layout[name])
            divisor = torch.full_like(mass, sum(self._masses)) if self.over_all else mass
            delta[name] = total / torch.where(mass > 0, divisor, 1.0).float()
            masses[name] = mass
        return Merged(delta, masses)

    def coverage(self, block: int) -> float:
        """Return the share of the block's entries that at least one arrival covers."""
        entries = {name: entry for name, entry in self.layout.items() if entry.block == block}
        total = sum(math.prod(entry.shape) for entry in entries.values())
        covered = 0
        for name, entry in entries.items():
            if name in self._numerator:
                covered += int((self._mass_of(entry) > 0).expand(entry.shape).sum())
        return covered / total

    def _mass_of(self, entry: ParameterLayout) -> Tensor:
        """Return the mass of the arrivals that cover each entry, shaped to broadcast to the parameter."""
        holders = [i for i, plan in enumerate(self._plans) if entry.held(plan.depth)]
        masses = np.asarray([self._masses[i] for i in holders])
        sliced = [d for d, axis in enumerate(entry.axes) if axis is not None]
        masks = [self._masks(entry, axis, holders) for axis in entry.axes if axis is not None]
        if not masks:
            total = np.asarray(masses.sum())
        elif len(masks) == 1:
            total = masses @ masks[0]
        else:
            total = (masks[0] * masses[:, None]).T @ masks[1]
        shape = [entry.shape[d] if d in sliced else 1 for d in range(len(entry.shape))]
        return torch.from_numpy(np.ascontiguousarray(total)).view(shape)

    def _masks(self, entry: ParameterLayout, axis: Axis, holders: list[int]) -> np.ndarray:
        """Return (holders, entries along the axis) with 1 where the plan keeps the entry."""
        assert entry.block is not None  # a layout with axes belongs to a block
        size = self.sizes.of(axis.group)
        rows = [mask(self._plans[i].blocks[entry.block].of(axis.group), size) for i in holders]
        return np.repeat(np.stack(rows), axis.entries, axis=1).astype(np.float64)


@dataclass(frozen=True)
class ServerStep:
    """How the merged update moves the model: with ``momentum`` beta, m = beta * m + merged and theta += rate * m,
    at covered entries only (Hsu et al. 2019, arXiv:1909.06335, there over all entries).
    """

    rate: float = 1.0
    momentum: float = 0.0

    def apply(self, state: State, velocity: State, merged: Merged) -> tuple[State, State]:
        """Return the new model and momentum; tensors that nobody covered are the old ones themselves."""
        new_state, new_velocity, everywhere = dict(state), dict(velocity), merged.covered
        for name, delta in merged.delta.items():
            covered, move = everywhere[name], delta
            if self.momentum:
                before = velocity.get(name, torch.zeros_like(delta))
                move = torch.where(covered, self.momentum * before + delta, before)
                new_velocity[name] = move
            new_state[name] = torch.where(covered, state[name] + self.rate * move, state[name])
        return new_state, new_velocity
