"""From what a board can afford to the shape of its submodel: how many blocks, how many units of each group.

The shape is two-dimensional. A keep ratio r asks for ``blocks * r ** depth_share`` blocks (the nearest exit); the width
then fills what is left of the budget. ``depth_share`` 0 prunes width only, 1 depth only, 0.5 both alike.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Callable, Dict, Optional, Sequence, Tuple

from cosp.amounts import amount
from cosp.errors import ConfigError
from cosp.submodel.footprint import Footprint, footprint
from cosp.submodel.plan import GroupSizes
from cosp.submodel.shape import TransformerShape

Measure = Callable[[Footprint], float]
"""What a budget counts: parameters, FLOPs or bytes of training memory."""

CostOf = Callable[["SubmodelShape"], float]
"""What a submodel costs where its footprint does not say it all: a method may hold more than the submodel."""

WIDTH_STEPS = 256


@dataclass(frozen=True)
class SubmodelShape:
    """How much a client keeps: ``counts`` units in each of the first ``depth`` blocks."""

    depth: int
    counts: GroupSizes


def parameters(cost: Footprint) -> float:
    """Budget in parameters, the default."""
    return cost.parameters


def flops(cost: Footprint) -> float:
    """Budget in FLOPs of one sample."""
    return cost.forward_flops


MEASURES: Dict[str, Measure] = {"parameters": parameters, "flops": flops}
"""What a method's setting ``budget`` may name: what a keep ratio is a share of."""

UNITS: Dict[Measure, str] = {parameters: "parameters", flops: "FLOPs"}


@lru_cache(maxsize=64)  # the same for the same, so that ``shape_for_rate`` knows it again
def training_memory(batch: int, optimizer: str) -> Measure:
    """Budget in bytes of training memory at this batch size and optimizer."""
    return lambda cost: cost.training_bytes(batch, optimizer)


@lru_cache(maxsize=1024)  # a fleet of thousands knows few keep ratios
def shape_for_rate(
    model: TransformerShape,
    rate: float,
    *,
    depth_share: float = 0.5,
    measure: Measure = parameters,
    precision: str = "float32",
    deepest: int | None = None,
) -> SubmodelShape:
    """Return the widest submodel whose cost is at most ``rate`` of the whole model's; rate 1 keeps everything.

    ``deepest``: an exit beyond which it does not go, whatever the rate.
    """
    if not 0 < rate <= 1:
        raise ConfigError(f"keep: {rate} is not a keep ratio: it must lie in (0, 1]")
    budget = rate * measure(footprint(model, (model.sizes,) * model.blocks, precision))
    cost_of = _measured_by(model, measure, precision)
    depth = min(depth_for_rate(model, rate, depth_share), deepest or model.blocks)
    return _widest(model, depth, budget, cost_of, UNITS.get(measure, "bytes"))


@lru_cache(maxsize=1024)
def shape_within(
    model: TransformerShape,
    rate: float,
    limit: float,
    cost_of: CostOf,
    *,
    depth_share: float,
    deepest: int | None = None,
) -> SubmodelShape:
    """Return the widest submodel, as deep as ``rate`` and ``deepest`` say, that costs at most ``limit`` bytes;
    ConfigError if none does.
    """
    depth = min(depth_for_rate(model, rate, depth_share), deepest or model.blocks)
    return _widest(model, depth, limit, cost_of, "bytes")


def shape_for_memory(
    model: TransformerShape,
    limit_bytes: int,
    *,
    batch: int,
    optimizer: str,
    precision: str = "float32",
    depth_share: float = 0.5,
    deepest: int | None = None,
) -> SubmodelShape:
    """Return the largest submodel that trains within ``limit_bytes``; ``ConfigError`` if none does."""
    measure = training_memory(batch, optimizer)
    whole = measure(footprint(model, (model.sizes,) * model.blocks, precision))
    for percent in range(100, 0, -1):
        try:
            shape = shape_for_rate(
                model, percent / 100, depth_share=depth_share, measure=measure, precision=precision, deepest=deepest
            )
        except ConfigError:
            continue
        if measure(footprint(model, (shape.counts,) * shape.depth, precision)) <= limit_bytes:
            return shape
    raise ConfigError(
        f"memory_bytes: {amount(limit_bytes, 'bytes')} hold no submodel of this model (the whole one trains in "
        f"{amount(whole, 'bytes')}): "
        "take a smaller batch, a smaller model or a bigger board"
    )


def depth_for_rate(model: TransformerShape, rate: float, depth_share: float) -> int:
    """Return the exit position nearest to ``blocks * rate ** depth_share``, the deeper one at a tie."""
    wanted = model.blocks * rate**depth_share
    return min(model.exits, key=lambda position: (abs(position - wanted), -position))


def _measured_by(model: TransformerShape, measure: Measure, precision: str) -> CostOf:
    return lambda shape: measure(footprint(model, (shape.counts,) * shape.depth, precision))


def _widest(model: TransformerShape, depth: int, budget: float, cost_of: CostOf, unit: str) -> SubmodelShape:
    """Return the widest submodel of ``depth`` blocks within ``budget`` ``unit``: all groups shrink by the same share.

    Heads are few, so their number steps coarsely; what that leaves of the budget goes to the other groups.
    """

    def fits(counts: GroupSizes) -> bool:
        return cost_of(SubmodelShape(depth, counts)) <= budget

    widths = _widths(model.sizes)
    uniform = _last(widths, fits)
    if uniform is not None:
        filled = _last([replace(counts, heads=uniform.heads) for counts in widths], fits)
        assert filled is not None  # ``uniform`` is one of them
        return SubmodelShape(depth, filled)
    shallower = [position for position in model.exits if position < depth]
    if shallower:
        return _widest(model, shallower[-1], budget, cost_of, unit)
    least = cost_of(SubmodelShape(depth, model.sizes.scaled(0.0)))
    raise ConfigError(
        f"keep: no submodel fits {amount(budget, unit)}: embeddings and the least of {depth} "
        f"block{'s' if depth > 1 else ''} take {amount(least, unit)}; raise the ratio"
    )


@lru_cache(maxsize=64)
def _widths(sizes: GroupSizes) -> Tuple[GroupSizes, ...]:
    """Return what a block keeps at each width, the narrowest first."""
    return tuple(sizes.scaled(step / WIDTH_STEPS) for step in range(1, WIDTH_STEPS + 1))


def _last(widths: Sequence[GroupSizes], fits: Callable[[GroupSizes], bool]) -> Optional[GroupSizes]:
    """Return the last that fits.

    By halving, as costs grow with the width; but for the last, the whole width, which may cost less than almost all of
    it: nothing is cut.
    """
    if fits(widths[-1]):
        return widths[-1]
    low, high = 0, len(widths) - 1  # all before low fit, none from high on
    while low < high:
        middle = (low + high) // 2
        if fits(widths[middle]):
            low = middle + 1
        else:
            high = middle
    return widths[low - 1] if low else None
