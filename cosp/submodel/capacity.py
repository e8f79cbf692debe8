"""From a board's memory and a target round time to the best submodel that keeps both.

Best is the largest *capacity*, the parameters trained: a board serves the model by moving its weights, and moves none
of those that it does not hold. Depth and width are both free. Where kernel launches bind, that means few wide blocks: a
block launches as many kernels however narrow it is.

Capacities within 1 % of the largest count as equal; of those the one with the shortest round is taken, then the one
with the least memory, then the larger, then the deeper, whose last exit is nearer to the whole model's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Callable, Optional, Tuple

from cosp.amounts import amount
from cosp.errors import ConfigError
from cosp.submodel.budget import WIDTH_STEPS, SubmodelShape, exits_behind, with_trunk
from cosp.submodel.shape import TransformerShape

EQUAL_CAPACITY = 0.01
"""Share by which capacities may differ and count as equal: no accuracy tells them apart."""


@dataclass(frozen=True)
class Demand:
    """What a submodel asks of one board."""

    shape: SubmodelShape
    parameters: int
    memory_bytes: int
    round_s: float


@dataclass(frozen=True)
class Limits:
    """What a board has to give to one task."""

    memory_bytes: float = math.inf
    round_s: float = math.inf

    def keep(self, demand: Demand) -> bool:
        return demand.memory_bytes <= self.memory_bytes and demand.round_s <= self.round_s


DemandOf = Callable[[SubmodelShape], Demand]


def best(model: TransformerShape, demand_of: DemandOf, limits: Limits, trunk: int = 0) -> Demand:
    """Return the submodel of most capacity within ``limits`` whose first ``trunk`` blocks are whole; ConfigError says
    which limit no submodel keeps.
    """
    widest = (_widest(model, depth, demand_of, limits, trunk) for depth in exits_behind(model, trunk))
    found = [demand for demand in widest if demand is not None]
    if not found:
        raise ConfigError(_nothing_fits(model, demand_of, limits, trunk))
    enough = (1 - EQUAL_CAPACITY) * max(demand.parameters for demand in found)
    return min((demand for demand in found if demand.parameters >= enough), key=_preference)


def binding(model: TransformerShape, demand_of: DemandOf, limits: Limits, trunk: int = 0) -> Tuple[str, ...]:
    """Return the limits that hold the board back: ``memory`` or ``time`` if it would train more without that one alone,
    both if only without both, none if it holds the whole model.
    """
    chosen = best(model, demand_of, limits, trunk)
    if chosen.shape.of_blocks(model) == (model.sizes,) * model.blocks:
        return ()
    eased = {"memory": replace(limits, memory_bytes=math.inf), "time": replace(limits, round_s=math.inf)}
    more = (1 + EQUAL_CAPACITY) * chosen.parameters
    found = tuple(name for name, left in eased.items() if best(model, demand_of, left, trunk).parameters > more)
    return found or tuple(eased)


def _preference(demand: Demand) -> Tuple[float, ...]:
    return demand.round_s, demand.memory_bytes, -demand.parameters, -demand.shape.depth


def _widest(model: TransformerShape, depth: int, demand_of: DemandOf, limits: Limits, trunk: int) -> Optional[Demand]:
    """Return the widest submodel of ``depth`` blocks within ``limits``, None if there is none.

    All groups shrink by the same share; there are few heads, so what rounding them down leaves goes to the others.
    """

    def demand_at(step: int, heads: Optional[int] = None) -> Demand:
        counts = model.sizes.scaled(step / WIDTH_STEPS)
        return demand_of(SubmodelShape(depth, counts if heads is None else replace(counts, heads=heads), trunk))

    uniform = _last_within(limits, demand_at)
    if uniform is None:
        return None
    heads = uniform.shape.counts.heads
    return _last_within(limits, lambda step: demand_at(step, heads)) or uniform


def _last_within(limits: Limits, demand_at: Callable[[int], Demand]) -> Optional[Demand]:
    """Return the demand of the largest step within ``limits``, by bisection; None if there is none.

    The whole width is tried by itself: it writes all rows in place, so it may cost less than narrower ones.
    """
    whole = demand_at(WIDTH_STEPS)
    if limits.keep(whole):
        return whole
    found, low, high = None, 0, WIDTH_STEPS
    while high - low > 1:
        middle = (low + high) // 2
        demand = demand_at(middle)
        if limits.keep(demand):
            found, low = demand, middle
        else:
            high = middle
    return found


def _nothing_fits(model: TransformerShape, demand_of: DemandOf, limits: Limits, trunk: int) -> str:
    first, widths = exits_behind(model, trunk)[0], (model.sizes.scaled(0.0), model.sizes)
    smallest = [demand_of(SubmodelShape(first, counts, trunk)) for counts in widths]
    held = [demand for demand in smallest if demand.memory_bytes <= limits.memory_bytes]
    if not held:
        return (
            f"memory: {amount(limits.memory_bytes, 'bytes')} hold no submodel of this model{with_trunk(trunk)} (the "
            f"smallest trains in {amount(smallest[0].memory_bytes, 'bytes')}): "
            "take a smaller batch, a smaller model or a bigger board"
        )
    fastest_s = min(demand.round_s for demand in held)
    return (
        f"time: no submodel makes a round of {limits.round_s:g} s, the fastest takes {fastest_s:.3g} s: raise the "
        "target, train less a round, or leave the board out"
    )
