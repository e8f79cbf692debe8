from __future__ import annotations

from hypothesis import given, settings
from small_models import SMALL, VIT_B, plans, shapes, shapes_and_plans

from cosp.models.transformer import Transformer
from cosp.submodel.layout import parameter_count
from cosp.submodel.shape import layout_of


@settings(max_examples=30)
@given(shapes())
def test_the_layout_lists_the_models_parameters_in_order(shape):
    expected = [(name, tuple(parameter.shape)) for name, parameter in Transformer(shape).named_parameters()]
    assert sorted((name, entry.shape) for name, entry in layout_of(shape).items()) == sorted(expected)
    assert [name for name, _ in expected] == list(layout_of(shape))


@settings(max_examples=30)
@given(shapes_and_plans())
def test_sliced_shapes_and_counts_are_those_of_the_module(shape_and_plan):
    shape, plan = shape_and_plan
    layout = layout_of(shape)
    parameters = dict(Transformer(shape, plan).named_parameters())
    held = {name: entry.sliced_shape(plan.counts) for name, entry in layout.items() if entry.held(plan.depth)}
    assert held == {name: tuple(parameter.shape) for name, parameter in parameters.items()}
    assert parameter_count(layout, plan.counts) == sum(parameter.numel() for parameter in parameters.values())


def test_every_pruned_axis_is_made_of_whole_units():
    for entry in layout_of(SMALL).values():
        for size, axis in zip(entry.shape, entry.axes, strict=True):
            assert axis is None or size == axis.entries * SMALL.sizes.of(axis.group)


def test_vit_b_has_the_textbook_number_of_parameters():
    block = 4 * 768**2 + 4 * 768 + 2 * 768 * 3072 + 768 + 3072 + 4 * 768
    embedding = 768 * (3 * 16**2) + 768 + 768 + 197 * 768
    exits = 4 * (2 * 768 + 300 * 768 + 300)
    assert parameter_count(layout_of(VIT_B), VIT_B.full_plan().counts) == 12 * block + embedding + exits


@given(plans(SMALL))
def test_a_plan_never_counts_more_than_the_whole(plan):
    layout = layout_of(SMALL)
    assert parameter_count(layout, plan.counts) <= parameter_count(layout, SMALL.full_plan().counts)
