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
from cosp.submodel.frozen import NOTHING, Frozen
from cosp.submodel.plan import GroupSizes, SubmodelPlan, prefix_plan
from cosp.submodel.shape import TransformerShape

Measure = Callable[[Footprint], float]
"""What a budget counts: parameters, FLOPs or bytes of training memory."""

CostOf = Callable[["SubmodelShape"], float]
"""What a submodel costs where its footprint does not say it all: a method may hold more than the submodel."""

WIDTH_STEPS = 256


@dataclass(frozen=True)
class SubmodelShape:
    """How much a client keeps: ``counts`` units in each of the first ``depth`` blocks, all in the first ``whole``."""

    depth: int
    counts: GroupSizes
    whole: int = 0

    def of_blocks(self, model: TransformerShape) -> Tuple[GroupSizes, ...]:
        """Return how many units each block keeps."""
        return (model.sizes,) * self.whole + (self.counts,) * (self.depth - self.whole)

    def prefix(self, model: TransformerShape) -> SubmodelPlan:
        """Return the plan of the first units of every group."""
        narrow = prefix_plan(self.counts, self.depth)
        if not self.whole:
            return narrow
        return SubmodelPlan(prefix_plan(model.sizes, self.depth).blocks[: self.whole] + narrow.blocks[self.whole :])


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
    checkpointing: bool = False,
    deepest: int | None = None,
    held: TransformerShape | None = None,
    frozen: Frozen = NOTHING,
) -> SubmodelShape:
    """Return the widest submodel whose cost is at most ``rate`` of the whole model's; rate 1 keeps everything.

    ``deepest``: an exit beyond which it does not go, whatever the rate. ``held``: ``model`` with fewer words, as a
    client holds it: what it saves of words its blocks may cost. ``frozen``: its trunk is kept whole.
    """
    if not 0 < rate <= 1:
        raise ConfigError(f"keep: {rate} is not a keep ratio: it must lie in (0, 1]")
    budget = rate * measure(footprint(model, (model.sizes,) * model.blocks, precision, checkpointing=checkpointing))
    cost_of = _measured_by(held or model, measure, precision, frozen, checkpointing)
    depth = _depth(model, rate, depth_share, deepest, frozen.blocks)
    return _widest(model, depth, budget, cost_of, UNITS.get(measure, "bytes"), frozen.blocks)


@lru_cache(maxsize=1024)
def shape_within(
    model: TransformerShape,
    rate: float,
    limit: float,
    cost_of: CostOf,
    *,
    depth_share: float,
    deepest: int | None = None,
    trunk: int = 0,
) -> SubmodelShape:
    """Return the widest submodel, as deep as ``rate`` and ``deepest`` say, that costs at most ``limit`` bytes and keeps
    the first ``trunk`` blocks whole; ConfigError if none does.
    """
    return _widest(model, _depth(model, rate, depth_share, deepest, trunk), limit, cost_of, "bytes", trunk)


def shape_for_memory(
    model: TransformerShape,
    limit_bytes: int,
    *,
    batch: int,
    optimizer: str,
    precision: str = "float32",
    checkpointing: bool = False,
    depth_share: float = 0.5,
    deepest: int | None = None,
    frozen: Frozen = NOTHING,
) -> SubmodelShape:
    """Return the largest submodel that trains within ``limit_bytes``; ``ConfigError`` if none does."""
    measure = training_memory(batch, optimizer)
    whole = measure(footprint(model, (model.sizes,) * model.blocks, precision, checkpointing=checkpointing))
    for percent in range(100, 0, -1):
        try:
            shape = shape_for_rate(
                model,
                percent / 100,
                depth_share=depth_share,
                measure=measure,
                precision=precision,
                checkpointing=checkpointing,
                deepest=deepest,
                frozen=frozen,
            )
        except ConfigError:
            continue
        if measure(footprint(model, shape.of_blocks(model), precision, frozen, checkpointing)) <= limit_bytes:
            return shape
    raise ConfigError(
        f"memory_bytes: {amount(limit_bytes, 'bytes')} hold no submodel of this model"
        f"{with_trunk(frozen.blocks)} (the whole one trains in {amount(whole, 'bytes')}): "
        "take a smaller batch, a smaller model or a bigger board"
    )


def depth_for_rate(model: TransformerShape, rate: float, depth_share: float) -> int:
    """Return the exit position nearest to ``blocks * rate ** depth_share``, the deeper one at a tie."""
    wanted = model.blocks * rate**depth_share
    return min(model.exits, key=lambda position: (abs(position - wanted), -position))


def exits_behind(model: TransformerShape, trunk: int) -> Tuple[int, ...]:
    """Return the exits that a submodel may end at which holds the first ``trunk`` blocks."""
    return tuple(position for position in model.exits if position >= trunk)


def _depth(model: TransformerShape, rate: float, depth_share: float, deepest: int | None, trunk: int) -> int:
    """Return how deep the rate lets a submodel be: at most ``deepest``, at least to the first exit behind the trunk."""
    return max(min(depth_for_rate(model, rate, depth_share), deepest or model.blocks), exits_behind(model, trunk)[0])


def with_trunk(trunk: int) -> str:
    """Return what an error says of a submodel beside its size."""
    return f" with its frozen trunk of {trunk} block{'s' if trunk > 1 else ''} whole" if trunk else ""


def _measured_by(
    model: TransformerShape, measure: Measure, precision: str, frozen: Frozen, checkpointing: bool
) -> CostOf:
    return lambda shape: measure(footprint(model, shape.of_blocks(model), precision, frozen, checkpointing))


def _widest(
    model: TransformerShape, depth: int, budget: float, cost_of: CostOf, unit: str, trunk: int = 0
) -> SubmodelShape:
    """Return the widest submodel of ``depth`` blocks within ``budget`` ``unit``: all groups shrink by the same share,
    but for those of the ``trunk``.

    Heads are few, so their number steps coarsely; what that leaves of the budget goes to the other groups.
    """

    def fits(counts: GroupSizes) -> bool:
        return cost_of(SubmodelShape(depth, counts, trunk)) <= budget

    widths = _widths(model.sizes)
    uniform = _last(widths, fits)
    if uniform is not None:
        filled = _last([replace(counts, heads=uniform.heads) for counts in widths], fits)
        assert filled is not None  # ``uniform`` is one of them
        return SubmodelShape(depth, filled, trunk)
    shallower = [position for position in exits_behind(model, trunk) if position < depth]
    if shallower:
        return _widest(model, shallower[-1], budget, cost_of, unit, trunk)
    least = cost_of(SubmodelShape(depth, model.sizes.scaled(0.0), trunk))
    if trunk:
        raise ConfigError(
            f"keep: no submodel fits {amount(budget, unit)}: embeddings, the frozen trunk of {trunk} "
            f"block{'s' if trunk > 1 else ''}, which is held whole, and the least of the rest take "
            f"{amount(least, unit)}; raise the ratio, or freeze fewer blocks (training.frozen)"
        )
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
