from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import SMALL, plans, random_state, random_update, same_units, shapes_and_plans

from cosp.submodel.layout import Axis, ParameterLayout
from cosp.submodel.shape import layout_of
from cosp.submodel.slicing import extract, grid, kept_indices, scatter

LAYOUT = layout_of(SMALL)


def test_full_extraction_returns_the_global_tensors_themselves():
    state = random_state(SMALL)
    submodel = extract(state, LAYOUT, SMALL.full_plan())
    assert list(submodel) == list(state)
    assert all(submodel[name] is state[name] for name in state)


@settings(max_examples=40)
@given(shapes_and_plans())
def test_scatter_undoes_extract(shape_and_plan):
    shape, plan = shape_and_plan
    layout, state = layout_of(shape), random_state(shape)
    back = scatter(extract(state, layout, plan), layout, plan, into=state)
    assert all(torch.equal(back[name], state[name]) for name in state)


@settings(max_examples=40)
@given(shapes_and_plans())
def test_extract_reads_what_scatter_wrote(shape_and_plan):
    shape, plan = shape_and_plan
    layout, update = layout_of(shape), random_update(shape, plan, seed=1)
    written = scatter(update, layout, plan, into=random_state(shape))
    read = extract(written, layout, plan)
    assert list(read) == list(update)
    assert all(torch.equal(read[name], update[name]) for name in update)


@settings(max_examples=40)
@given(shapes_and_plans())
def test_scatter_writes_the_kept_entries_only(shape_and_plan):
    shape, plan = shape_and_plan
    layout = layout_of(shape)
    zeros = {name: torch.zeros(entry.shape) for name, entry in layout.items()}
    ones = {name: torch.ones_like(tensor) for name, tensor in random_update(shape, plan, 0).items()}
    written = scatter(ones, layout, plan, into=zeros)
    found = {name: int(tensor.sum()) for name, tensor in written.items() if tensor.any()}
    assert found == {name: tensor.numel() for name, tensor in ones.items()}
    assert not any(tensor.any() for tensor in zeros.values())  # ``into`` itself is left alone


@given(st.data())
def test_kept_blocks_and_exits_are_those_within_the_depth(data):
    plan = data.draw(plans(SMALL))
    names = extract(random_state(SMALL), LAYOUT, plan)
    assert {name.split(".")[1] for name in names if name.startswith("blocks.")} == {str(b) for b in range(plan.depth)}
    assert {name.split(".")[1] for name in names if name.startswith("exits.")} == {str(i) for i in range(plan.depth)}


def test_a_head_takes_its_consecutive_rows_and_columns():
    plan = same_units(heads=(1,), attention_rows=(0, 3), hidden=(2,), ffn_rows=(5, 7))  # a head has four entries
    state = random_state(SMALL)
    submodel = extract(state, LAYOUT, plan)
    at = {name.removeprefix("blocks.0."): (state[name], tensor) for name, tensor in submodel.items()}
    for name in ("attention.qkv_weight", "attention.qkv_bias"):
        whole, cut = at[name]
        assert torch.equal(cut, whole[:, 4:8])
    whole, cut = at["attention.out.weight"]
    assert torch.equal(cut, whole[[0, 3]][:, 4:8])
    whole, cut = at["ffn.up.weight"]
    assert torch.equal(cut, whole[[2]])
    whole, cut = at["ffn.down.weight"]
    assert torch.equal(cut, whole[[5, 7]][:, [2]])
    whole, cut = at["norm2.weight"]
    assert cut is whole


def test_a_grid_addresses_the_outer_product():
    entry = ParameterLayout((3, 4), (Axis("attention_rows"), Axis("heads", 2)), block=0)
    plan = same_units(heads=(1,), attention_rows=(0, 2), hidden=(0,), ffn_rows=(0,))
    table = torch.zeros(3, 4)
    table[grid(kept_indices(entry, plan), entry.shape)] = 1
    assert table.tolist() == [[0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 1, 1]]
