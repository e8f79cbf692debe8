"""The open round of a robust rule: its updates are kept until it closes, O(arrivals x model)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from cosp.errors import RefusedUpdate
from cosp.merge.aggregation import Masses, Merged, OpenRound
from cosp.merge.arrived import Arrived
from cosp.merge.robust import LEAST, Robust
from cosp.submodel.plan import SubmodelPlan
from cosp.submodel.slicing import State


@dataclass
class GatheredRound(OpenRound):
    """Merges by ``rule`` what it has gathered. Entries that fewer than three arrivals cover keep their value."""

    least: int = LEAST
    rule: Robust = field(kw_only=True)
    _updates: list[State] = field(default_factory=list)

    def fold(
        self,
        plan: SubmodelPlan,
        delta: State,
        weight: float,
        mass: float | None = None,
        squares: float | None = None,
    ) -> None:
        """Keep one update as its mass counts it; see :meth:`OpenRound.fold`."""
        super().fold(plan, {}, weight, mass, squares=0.0)
        scale = weight / mass if mass else 1.0
        self._updates.append(dict(delta) if scale == 1.0 else {name: scale * part for name, part in delta.items()})

    def close(self) -> Merged:
        """Return the merge by the rule; RefusedUpdate if too few have arrived for it."""
        if self.arrivals < self.rule.needs:
            raise RefusedUpdate("few", f"{self.arrivals} updates, {self.rule.name} needs {self.rule.needs}")
        arrived = Arrived(self.layout, self._plans, self._updates, self._masses, self.least)
        delta, mass = self._weighed(arrived) if self.rule.weigh else self._combined(arrived)
        return Merged(delta, Masses(tuple(delta), lambda name: self._where_enough(name, mass[name])))

    def _where_enough(self, name: str, mass: Tensor) -> Tensor:
        covering = self._sum_over(self.layout[name], [1.0] * self.arrivals)
        return torch.where(covering >= self.least, mass, 0.0)

    def _weighed(self, arrived: Arrived) -> tuple[State, Mapping[str, Tensor]]:
        """Return the mean of updates as the rule weighs them, and the weight on each entry."""
        assert self.rule.weigh is not None
        mean = OpenRound(self.layout, self.sizes)
        for plan, update, weight in zip(self._plans, self._updates, self.rule.weigh(arrived).tolist(), strict=True):
            if weight:
                mean.fold(plan, update, weight, squares=0.0)
        merged = mean.close()
        return merged.delta, merged.mass

    def _combined(self, arrived: Arrived) -> tuple[State, Mapping[str, Tensor]]:
        """Return what the rule makes of each entry."""
        assert self.rule.combine is not None
        masses, delta = torch.tensor(self._masses, dtype=torch.float32), dict[str, Tensor]()
        for piece in arrived.pieces():
            merged = self.rule.combine(piece.values, masses)
            for part in piece.parts:
                shape = self.layout[part.name].shape
                whole = delta.setdefault(part.name, torch.zeros(shape))
                whole[part.rows] = merged[part.at].view(-1, *shape[1:])
        return delta, Masses(tuple(delta), lambda name: self._mass_of(self.layout[name]))
