from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import FASHION, VIT_B, shapes

from cosp.amounts import amount
from cosp.errors import ConfigError
from cosp.models.vit import ViTShape
from cosp.submodel.budget import WIDTH_STEPS, SubmodelShape
from cosp.submodel.capacity import EQUAL_CAPACITY, Demand, DemandOf, Limits, best, binding
from cosp.submodel.footprint import footprint

WHOLE = SubmodelShape(4, FASHION.sizes)


def on_board(model: ViTShape, *, flops_per_s: float = 1e6, launch_s: float = 1e-3) -> DemandOf:
    """A board whose round takes arithmetic or launches, whichever is longer, and the wire."""

    def demand(shape: SubmodelShape) -> Demand:
        size = footprint(model, (shape.counts,) * shape.depth)
        step = size.training_step(16, "adamw")
        round_s = max(step.flops / flops_per_s, step.kernels * launch_s) + 1e-6 * size.parameters
        return Demand(shape, size.parameters, size.training_bytes(16, "adamw"), round_s)

    return demand


def every_uniform(model: ViTShape) -> Iterator[SubmodelShape]:
    for depth in model.exits:
        for step in range(1, WIDTH_STEPS + 1):
            yield SubmodelShape(depth, model.sizes.scaled(step / WIDTH_STEPS))


def whole(model: ViTShape, demand: DemandOf) -> Demand:
    return demand(SubmodelShape(model.blocks, model.sizes))


@settings(max_examples=40, deadline=None)
@given(shapes(), st.floats(0.02, 1.2), st.floats(0.02, 1.2), st.sampled_from([1e-6, 1e-3]))
def test_limits_are_kept_and_no_submodel_of_even_width_has_more_capacity(model, memory, time, launch_s):
    demand = on_board(model, launch_s=launch_s)
    full = whole(model, demand)
    limits = Limits(memory_bytes=memory * full.memory_bytes, round_s=time * full.round_s)
    fitting = [d.parameters for d in map(demand, every_uniform(model)) if limits.keep(d)]
    try:
        chosen = best(model, demand, limits)
    except ConfigError:
        assert not fitting
    else:
        assert limits.keep(chosen)
        assert chosen == demand(chosen.shape)
        assert chosen.parameters >= (1 - EQUAL_CAPACITY) * max(fitting)


def test_without_limits_everything_is_kept_and_nothing_binds():
    assert best(FASHION, on_board(FASHION), Limits()).shape == WHOLE
    assert binding(FASHION, on_board(FASHION), Limits()) == ()


def test_most_of_what_binds_is_used():
    demand = on_board(VIT_B, flops_per_s=1e12)
    full = whole(VIT_B, demand)
    tight = best(VIT_B, demand, Limits(round_s=0.3 * full.round_s))
    assert 0.9 * 0.3 * full.round_s < tight.round_s <= 0.3 * full.round_s
    small = best(VIT_B, demand, Limits(memory_bytes=0.3 * full.memory_bytes))
    assert 0.85 * 0.3 * full.memory_bytes < small.memory_bytes <= 0.3 * full.memory_bytes


def test_what_binds_is_what_would_buy_more_capacity():
    demand = on_board(FASHION)
    full = whole(FASHION, demand)
    half = Limits(memory_bytes=full.memory_bytes / 2, round_s=full.round_s / 2)
    assert binding(FASHION, demand, Limits(memory_bytes=half.memory_bytes)) == ("memory",)
    assert binding(FASHION, demand, Limits(round_s=half.round_s)) == ("time",)
    assert binding(FASHION, demand, Limits(memory_bytes=half.memory_bytes, round_s=0.99 * full.round_s)) == ("memory",)


def test_where_only_launches_cost_blocks_stay_whole():
    """A narrow block launches no fewer kernels: half the time is half the blocks, at their whole width."""
    demand = on_board(FASHION, flops_per_s=1e15, launch_s=1.0)
    chosen = best(FASHION, demand, Limits(round_s=0.56 * whole(FASHION, demand).round_s))
    assert chosen.shape == SubmodelShape(2, FASHION.sizes)


def shaped(parameters: dict[int, int], rest: Callable[[int], tuple[int, float]]) -> DemandOf:
    """Whole widths alone fit (narrow ones ask for infinite time); a depth's demand is ``parameters`` and ``rest``."""

    def demand(shape: SubmodelShape) -> Demand:
        memory_bytes, round_s = rest(shape.depth)
        wide = shape.counts == FASHION.sizes
        return Demand(shape, parameters[shape.depth], memory_bytes, round_s if wide else math.inf)

    return demand


@pytest.mark.parametrize(
    ("rest", "depth", "why"),
    [
        (lambda depth: (10, float(depth)), 2, "the shortest of those within 1 %: not 1, which is far smaller"),
        (lambda depth: (10 - depth, 1.0), 4, "the least memory at equal time"),
        (lambda depth: (10, 1.0), 3, "the larger at equal time and memory"),
    ],
)
def test_among_nearly_equal_capacities_time_then_memory_then_size_decide(rest, depth, why):
    demand = shaped({1: 500, 2: 995, 3: 1000, 4: 999}, rest)
    assert best(FASHION, demand, Limits(round_s=100.0)).shape.depth == depth, why


def test_the_deeper_of_two_that_are_equal_in_all_is_taken():
    demand = shaped({1: 500, 2: 1000, 3: 1000, 4: 1000}, lambda depth: (10, 1.0))
    assert best(FASHION, demand, Limits(round_s=100.0)).shape.depth == 4


def test_a_board_without_memory_for_anything_is_told_the_least():
    demand = on_board(FASHION)
    least = amount(demand(SubmodelShape(1, FASHION.sizes.scaled(0.0))).memory_bytes, "bytes")
    with pytest.raises(ConfigError, match=rf"^memory: 100 bytes hold no submodel .*the smallest trains in {least}\)"):
        best(FASHION, demand, Limits(memory_bytes=100, round_s=1e-9))


def test_a_board_that_is_too_slow_for_anything_is_told_the_fastest_it_can_do():
    demand = on_board(FASHION)
    fastest_s = demand(SubmodelShape(1, FASHION.sizes.scaled(0.0))).round_s
    with pytest.raises(
        ConfigError, match=rf"^time: no submodel makes a round of 0.001 s, the fastest takes {fastest_s:.3g} s"
    ):
        best(FASHION, demand, Limits(round_s=0.001))
