from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import FASHION, SMALL, VIT_B, shapes

from cosp.errors import ConfigError
from cosp.models.vit import ViTShape
from cosp.submodel import budget
from cosp.submodel.footprint import Footprint, footprint
from cosp.submodel.frozen import NOTHING

MEASURES = {"parameters": budget.parameters, "flops": budget.flops, "memory": budget.training_memory(16, "adamw")}


def cost_of(model: ViTShape, shape: budget.SubmodelShape) -> Footprint:
    return footprint(model, (shape.counts,) * shape.depth)


def whole_of(model: ViTShape) -> Footprint:
    return footprint(model, (model.sizes,) * model.blocks)


@given(shapes(), st.sampled_from([0.0, 0.3, 0.5, 1.0]), st.sampled_from(sorted(MEASURES)))
def test_rate_1_keeps_everything(model, depth_share, measure):
    shape = budget.shape_for_rate(model, 1.0, depth_share=depth_share, measure=MEASURES[measure])
    assert shape == budget.SubmodelShape(model.blocks, model.sizes)


@settings(max_examples=50)
@given(shapes(), st.floats(0.05, 1.0), st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from(sorted(MEASURES)))
def test_a_submodel_never_costs_more_than_its_rate(model, rate, depth_share, measure):
    count = MEASURES[measure]
    try:
        shape = budget.shape_for_rate(model, rate, depth_share=depth_share, measure=count)
    except ConfigError:
        smallest = budget.SubmodelShape(model.exits[0], model.sizes.scaled(0.0))
        assert count(cost_of(model, smallest)) > rate * count(whole_of(model))
    else:
        assert count(cost_of(model, shape)) <= rate * count(whole_of(model))
        assert shape.depth in model.exits


@pytest.mark.parametrize("measure", sorted(MEASURES))
@pytest.mark.parametrize("depth_share", [0.0, 0.5])
def test_a_higher_rate_buys_no_less(measure, depth_share):
    count, costs, depths = MEASURES[measure], [], []
    for percent in range(30, 101, 2):
        shape = budget.shape_for_rate(FASHION, percent / 100, depth_share=depth_share, measure=count)
        costs.append(count(cost_of(FASHION, shape)))
        depths.append(shape.depth)
    assert costs == sorted(costs)
    assert depths == sorted(depths)


@pytest.mark.parametrize("rate", [0.1, 0.25, 0.5, 0.75])
def test_most_of_the_budget_is_used(rate):
    shape = budget.shape_for_rate(VIT_B, rate)
    assert cost_of(VIT_B, shape).parameters > 0.97 * rate * whole_of(VIT_B).parameters


@pytest.mark.parametrize(
    ("rate", "depth_share", "depth"), [(0.25, 0.5, 6), (0.25, 0.0, 12), (0.25, 1.0, 3), (1, 1, 12)]
)
def test_depth_is_the_exit_nearest_to_the_rate_to_the_depth_share(rate, depth_share, depth):
    assert budget.depth_for_rate(VIT_B, rate, depth_share) == depth


def test_the_deeper_exit_wins_a_tie():
    assert budget.depth_for_rate(VIT_B, 4.5 / 12, 1.0) == 6


def test_a_board_without_room_for_the_wanted_depth_gets_a_shallower_submodel():
    rate = (
        1.05 * cost_of(SMALL, budget.SubmodelShape(1, SMALL.sizes.scaled(0.0))).parameters / whole_of(SMALL).parameters
    )
    assert budget.depth_for_rate(SMALL, rate, 0.0) == 3
    assert budget.shape_for_rate(SMALL, rate, depth_share=0.0).depth == 1


@pytest.mark.parametrize("rate", [0, -0.5, 1.01, float("nan")])
def test_a_rate_outside_0_to_1_is_refused(rate):
    with pytest.raises(ConfigError, match=r"^keep: .* is not a keep ratio"):
        budget.shape_for_rate(SMALL, rate)


def test_a_rate_below_the_smallest_submodel_is_refused():
    with pytest.raises(
        ConfigError, match=r"^keep: no submodel fits [\d.]+ parameters: .* take [\d.]+( k)? parameters;"
    ):
        budget.shape_for_rate(SMALL, 0.01)
    with pytest.raises(ConfigError, match=r"^keep: no submodel fits [\d.]+ (FLOPs|kFLOP): .* take [\d.]+ kFLOP; raise"):
        budget.shape_for_rate(SMALL, 0.01, measure=budget.flops)
    cost_of = budget._measured_by(SMALL, MEASURES["memory"], "float32", NOTHING, False)
    with pytest.raises(ConfigError, match=r"^keep: no submodel fits 100 bytes: .* take [\d.]+ [kM]B; raise"):
        budget.shape_within(SMALL, 0.5, 100, cost_of, depth_share=0.5)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
def test_a_memory_limit_is_filled_but_not_exceeded(share):
    limit = int(share * whole_of(FASHION).training_bytes(32, "adamw"))
    shape = budget.shape_for_memory(FASHION, limit, batch=32, optimizer="adamw")
    used = cost_of(FASHION, shape).training_bytes(32, "adamw")
    assert 0.93 * limit < used <= limit


def test_memory_for_everything_keeps_everything():
    limit = whole_of(FASHION).training_bytes(32, "sgd")
    assert budget.shape_for_memory(FASHION, limit, batch=32, optimizer="sgd") == budget.SubmodelShape(4, FASHION.sizes)


def test_memory_for_nothing_is_refused():
    with pytest.raises(ConfigError, match=r"^memory_bytes: 1 kB hold no submodel .* trains in [\d.]+ MB\): .*batch"):
        budget.shape_for_memory(FASHION, 1000, batch=32, optimizer="adamw")


@settings(max_examples=25)
@given(shapes(), st.floats(0.05, 1.0), st.sampled_from(sorted(MEASURES)))
def test_no_wider_submodel_of_that_depth_fits(model, rate, measure):
    """Every width looked at, where the search halves them."""
    count = MEASURES[measure]
    limit = rate * count(whole_of(model))
    try:
        found = budget.shape_for_rate(model, rate, measure=count)
    except ConfigError:
        return
    widths = [model.sizes.scaled(step / budget.WIDTH_STEPS) for step in range(budget.WIDTH_STEPS, 0, -1)]
    fits = [sizes for sizes in widths if count(cost_of(model, budget.SubmodelShape(found.depth, sizes))) <= limit]
    assert found.counts.heads == fits[0].heads
    assert found.counts.hidden >= fits[0].hidden
    filled = (replace(sizes, heads=fits[0].heads) for sizes in widths)
    assert found.counts == next(
        sizes for sizes in filled if count(cost_of(model, budget.SubmodelShape(found.depth, sizes))) <= limit
    )
