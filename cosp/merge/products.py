"""Merging adapters by what they make together, the product B A, and not by A and B apart.

The mean of products is not the product of means: (B1 A1 + B2 A2) / 2 differs from (B1 + B2) / 2 (A1 + A2) / 2, and
products of unequal ranks are of one size. A round gathers the products of what clients trained; what becomes of their
mean is the step's: factors of the same rank (FlexLoRA), or part of the weights (FLoRA).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from cosp.merge.aggregation import Merged, ServerStep
from cosp.submodel.layout import Layout
from cosp.submodel.low_rank import drawn, moved, pairs_of, product_layout, product_name, products
from cosp.submodel.plan import SubmodelPlan
from cosp.submodel.shape import TransformerShape, layout_of
from cosp.submodel.slicing import State, extract

if TYPE_CHECKING:
    from torch import Tensor

ROUNDS = "rounds"
"""How often adapters were drawn anew, in the server's momentum, which a checkpoint holds."""


@dataclass(frozen=True, kw_only=True)
class Products:
    """What a round gathers of adapters.

    ``from_now``: an update leads from the model as it is now to the client's product, whatever the client began with;
    else it is by how much the product grew.
    """

    shape: TransformerShape
    from_now: bool

    @property
    def layout(self) -> Layout:
        """Where units lie in what is gathered: products in place of adapters."""
        others = {name: entry for name, entry in layout_of(self.shape).items() if not entry.adapter}
        return {**others, **product_layout(self.shape)}

    def update(
        self, plan: SubmodelPlan, received: Mapping[str, Tensor], now: State, delta: Mapping[str, Tensor]
    ) -> State:
        """Return an update as it is gathered; one without tensors, of a dry run, has none then either."""
        names = [name for pair in pairs_of(self.shape) for name in (pair.a, pair.b) if name in delta]
        began = {name: received[name] for name in names}
        trained = products({name: began[name] + delta[name] for name in names}, self.shape)
        before = products(began, self.shape)
        if self.from_now and names:
            before = extract(products(now, self.shape), product_layout(self.shape), plan)
        change = {name: product - before[name] for name, product in trained.items()}
        return {**{name: part for name, part in delta.items() if name not in set(names)}, **change}


@dataclass(frozen=True, kw_only=True)
class Refactored:
    """The products move; their best factors of the model's rank are the new adapters (FlexLoRA).

    B is U S and A is V transposed of the singular value decomposition, so that the first r ranks are the best r.
    """

    shape: TransformerShape
    step: ServerStep

    def apply(self, state: State, velocity: State, merged: Merged) -> tuple[State, State]:
        wholes = products(state, self.shape)
        found, velocity = self.step.apply({**state, **wholes}, velocity, merged)
        rank, factors = self.shape.sizes.ranks, dict[str, "Tensor"]()
        for pair in pairs_of(self.shape):
            if product_name(pair) in merged.delta:
                left, sizes, right = torch.linalg.svd(found[product_name(pair)], full_matrices=False)
                factors[pair.b] = (left[:, :rank] * sizes[:rank]).contiguous()
                factors[pair.a] = right[:rank].contiguous()
        return {**{name: found[name] for name in state}, **factors}, velocity


@dataclass(frozen=True, kw_only=True)
class Folded:
    """The weights beside adapters move by the products, and adapters begin anew (FLoRA)."""

    shape: TransformerShape
    seed: int
    step: ServerStep = field(default_factory=ServerStep)

    def apply(self, state: State, velocity: State, merged: Merged) -> tuple[State, State]:
        began = {name: torch.zeros_like(delta) for name, delta in merged.delta.items() if name not in state}
        rounds = int(velocity.get(ROUNDS, torch.tensor(0))) + 1
        before = {name: part for name, part in velocity.items() if name != ROUNDS}
        found, after = self.step.apply({**state, **began}, before, merged)
        grown = moved({name: found[name] for name in state}, self.shape, {name: found[name] for name in began})
        fresh = drawn(self.shape, self.seed, rounds) if state else {}
        return {**grown, **fresh}, {**after, ROUNDS: torch.tensor(rounds)}
