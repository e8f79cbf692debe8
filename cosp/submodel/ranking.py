"""One order of all units of a model by score over cost, and how far a client follows it (PruneFL, arXiv:1909.12326).

The best unit of every group of every block is always held: a block cannot do without.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Dict, List, NamedTuple, Sequence, Set

from cosp.amounts import amount
from cosp.errors import ConfigError
from cosp.submodel.budget import UNITS, Measure, parameters
from cosp.submodel.footprint import Footprint, footprint
from cosp.submodel.plan import GROUPS, BlockPlan, GroupSizes, SubmodelPlan
from cosp.submodel.selection import Scores
from cosp.submodel.shape import TransformerShape

LEAST = GroupSizes(heads=1, attention_rows=1, hidden=1, ffn_rows=1)


class Unit(NamedTuple):
    """One unit of the model and its score."""

    block: int
    group: str
    place: int
    score: float


def unit_costs(model: TransformerShape) -> Dict[str, int]:
    """Return by how much a unit of each group adds to the forward FLOPs of a sample in an otherwise whole block."""
    sizes = model.sizes
    whole = _flops(model, sizes)
    return {group: whole - _flops(model, replace(sizes, **{group: sizes.of(group) - 1})) for group in GROUPS}


def unit_order(model: TransformerShape, scores: Scores) -> List[Unit]:
    """Return all units but the best of each group, by falling score over cost; ties in the order of the model."""
    costs = unit_costs(model)
    held = _best(scores)
    units = [
        Unit(b, group, index, float(score))
        for b, block in enumerate(scores)
        for group in GROUPS
        for index, score in enumerate(block[group])
        if index != held[b][group]
    ]
    return sorted(units, key=lambda unit: -unit.score / costs[unit.group])


def worth_their_time(model: TransformerShape, order: Sequence[Unit], scores: Scores) -> int:
    """Return how many units of ``order`` are taken while sum of scores / (c + sum of costs) grows."""
    costs, held = unit_costs(model), _best(scores)
    value = sum(float(block[group][held[b][group]]) for b, block in enumerate(scores) for group in GROUPS)
    time = footprint(model, (LEAST,) * len(scores)).forward_flops
    for count, unit in enumerate(order):
        if unit.score / costs[unit.group] <= value / time:
            return count
        value, time = value + unit.score, time + costs[unit.group]
    return len(order)


def within_budget(
    model: TransformerShape, order: Sequence[Unit], scores: Scores, rate: float, measure: Measure = parameters
) -> SubmodelPlan:
    """Return the plan of the longest beginning of ``order`` that has at most ``rate`` of the model's parameters, or of
    what else ``measure`` counts.
    """
    check_budget(model, rate, measure)
    limit = rate * measure(footprint(model, model.full_plan().counts))
    fits, beyond = 0, len(order) + 1
    while beyond - fits > 1:
        middle = (fits + beyond) // 2
        within = measure(footprint(model, _plan(order[:middle], scores).counts)) <= limit
        fits, beyond = (middle, beyond) if within else (fits, middle)
    return _plan(order[:fits], scores)


def check_budget(model: TransformerShape, rate: float, measure: Measure = parameters) -> None:
    """ConfigError if not even one unit of every group fits ``rate`` of what ``measure`` counts of the model."""
    limit, least = rate * measure(footprint(model, model.full_plan().counts)), measure(_least(model))
    if least > limit:
        unit = UNITS[measure]
        raise ConfigError(
            f"keep: no submodel of all blocks fits {amount(limit, unit)}: the least of them takes "
            f"{amount(least, unit)}; raise the ratio"
        )


def _least(model: TransformerShape) -> Footprint:
    return footprint(model, (LEAST,) * model.blocks)


def _plan(taken: Sequence[Unit], scores: Scores) -> SubmodelPlan:
    """Return the plan that holds ``taken`` and the best unit of every group."""
    kept: List[Dict[str, Set[int]]] = [{group: {unit} for group, unit in block.items()} for block in _best(scores)]
    for unit in taken:
        kept[unit.block][unit.group].add(unit.place)
    return SubmodelPlan(tuple(BlockPlan(**{g: tuple(sorted(units)) for g, units in b.items()}) for b in kept))


def _best(scores: Scores) -> List[Dict[str, int]]:
    return [{group: int(block[group].argmax()) for group in GROUPS} for block in scores]


def _flops(model: TransformerShape, counts: GroupSizes) -> int:
    """FLOPs of the model with ``counts`` in its first block."""
    return footprint(model, (counts, *(model.sizes,) * (model.blocks - 1))).forward_flops
