from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from small_models import SMALL, VIT_B, plans, same_units, shapes_and_plans

from cosp.submodel.plan import GROUPS, BlockPlan, GroupSizes, SubmodelPlan, mask, prefix_plan, wire_bytes

SIZES = SMALL.sizes


@given(plans(SMALL))
def test_a_plan_survives_json(plan):
    assert SubmodelPlan.from_json(plan.to_json()) == plan


@settings(max_examples=50)
@given(shapes_and_plans())
def test_a_plan_survives_its_wire_form(shape_and_plan):
    shape, plan = shape_and_plan
    assert SubmodelPlan.from_bytes(plan.to_bytes(shape.sizes), shape.sizes) == plan


@given(plans(SMALL))
def test_equal_plans_hash_alike(plan):
    assert {plan: 1}[SubmodelPlan.from_json(plan.to_json())] == 1


@settings(max_examples=50)
@given(shapes_and_plans())
def test_the_wire_form_is_as_long_whichever_units_are_kept(shape_and_plan):
    shape, plan = shape_and_plan
    assert len(plan.to_bytes(shape.sizes)) == wire_bytes(shape.sizes, plan.depth)


def test_a_vit_b_plan_takes_7_kilobytes_by_hand():
    assert wire_bytes(VIT_B.sizes, 12) == 12 * (2 + 96 + 384 + 96)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no plan",
        SMALL.full_plan().to_bytes(SIZES)[:-3],
        b"\xff" * 5,  # a block of SMALL takes four bytes
        b"\x00" * 4,  # no unit at all
    ],
)
def test_bytes_that_are_no_plan_are_refused(data):
    with pytest.raises(ValueError, match=r"not a plan|at least one"):
        SubmodelPlan.from_bytes(data, SIZES)


def test_a_plan_for_other_sizes_is_refused():
    with pytest.raises(ValueError, match="not a plan for blocks"):
        SubmodelPlan.from_bytes(SMALL.full_plan().to_bytes(SIZES), VIT_B.sizes)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"blocks": 3}', '{"blocks": [{"heads": [0]}]}'])
def test_text_that_is_no_plan_is_refused(text):
    with pytest.raises(ValueError, match="not a plan"):
        SubmodelPlan.from_json(text)


@pytest.mark.parametrize("units", [(), (-1,), (1, 0), (0, 0)])
@pytest.mark.parametrize("group", GROUPS)
def test_units_must_be_some_ascending_and_not_negative(group, units):
    kept = dict.fromkeys(GROUPS, (0,)) | {group: units}
    with pytest.raises(ValueError, match=f"^{group}: "):
        BlockPlan(**kept)
    with pytest.raises(ValueError, match=f"^{group}: "):
        SubmodelPlan.from_json(json.dumps({"blocks": [kept]}))


def test_a_plan_keeps_a_block():
    with pytest.raises(ValueError, match="at least one block"):
        SubmodelPlan(())


def test_a_unit_that_a_group_does_not_have_is_refused():
    plan = same_units(heads=(5,), attention_rows=(0,), hidden=(0,), ffn_rows=(0,))
    with pytest.raises(ValueError, match="unit 5"):
        plan.to_bytes(SIZES)


def test_counts_and_masks_by_hand():
    plan = same_units(depth=2, heads=(1,), attention_rows=(0, 2), hidden=(0, 1, 5), ffn_rows=(7,))
    assert plan.counts == (GroupSizes(heads=1, attention_rows=2, hidden=3, ffn_rows=1),) * 2
    assert mask((0, 2), 4).tolist() == [True, False, True, False]


def test_a_prefix_keeps_the_first_units():
    plan = prefix_plan(GroupSizes(heads=1, attention_rows=2, hidden=3, ffn_rows=1), depth=1)
    assert plan == same_units(heads=(0,), attention_rows=(0, 1), hidden=(0, 1, 2), ffn_rows=(0,))


@pytest.mark.parametrize(("width", "expected"), [(1.0, (2, 8, 6, 8)), (0.5, (1, 4, 3, 4)), (0.01, (1, 1, 1, 1))])
def test_scaling_rounds_down_but_keeps_a_unit(width, expected):
    assert SIZES.scaled(width) == GroupSizes(*expected)
