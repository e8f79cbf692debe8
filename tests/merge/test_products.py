"""Adapters merged entry by entry at unequal ranks, and by their products: by hand, and against the slow way."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from small_models import TINY, random_state, random_update
from torch import Tensor

from cosp.merge.aggregation import OpenRound, ServerStep
from cosp.merge.products import Folded, Products, Refactored
from cosp.submodel.adapters import Adapters
from cosp.submodel.low_rank import drawn, pairs_of, product_name, products
from cosp.submodel.plan import SubmodelPlan
from cosp.submodel.shape import layout_of
from cosp.submodel.slicing import State, extract

SHAPE = replace(TINY, adapters=Adapters(rank=2, projections=("query", "up")))
LAYOUT = layout_of(SHAPE)
A, B = "blocks.0.ffn.adapters.up.a", "blocks.0.ffn.adapters.up.b"


def of_rank(ranks: int) -> SubmodelPlan:
    return SubmodelPlan(tuple(replace(block, ranks=tuple(range(ranks))) for block in SHAPE.full_plan().blocks))


def ones(plan: SubmodelPlan, value: float) -> State:
    shapes = {name: entry.sliced_shape(plan.counts) for name, entry in LAYOUT.items()}
    return {name: torch.full(shape, value) for name, shape in shapes.items()}


def test_unequal_ranks_merge_by_hand():
    """The first rank is the mean of both boards, 1 at weight 1 and 4 at weight 3, the second what the large one has."""
    opened = OpenRound(LAYOUT, SHAPE.sizes)
    opened.fold(of_rank(1), ones(of_rank(1), 1.0), 1.0)
    opened.fold(of_rank(2), ones(of_rank(2), 4.0), 3.0)
    delta = opened.close().delta
    assert delta[A].tolist() == [[3.25] * 4, [4.0] * 4]
    assert delta[B].tolist() == [[3.25, 4.0]] * 3
    assert delta["exits.0.head.bias"].tolist() == [3.25, 3.25]
    assert opened.coverage(0) == 1.0


def test_ranks_that_nobody_trained_keep_their_value():
    opened = OpenRound(LAYOUT, SHAPE.sizes)
    opened.fold(of_rank(1), ones(of_rank(1), 1.0), 1.0)
    assert 0 < opened.coverage(0) < 1
    before = random_state(SHAPE)
    after, _ = ServerStep().apply(before, {}, opened.close())
    assert torch.equal(after[A][1], before[A][1])
    assert torch.equal(after[B][:, 1], before[B][:, 1])
    assert torch.equal(after[A][0], before[A][0] + 1)


def trained(plan: SubmodelPlan, received: State, seed: int) -> State:
    """An update of everything that adapters' boards train."""
    change = random_update(SHAPE, plan, seed)
    return {name: change[name] for name in received if LAYOUT[name].adapter or name.startswith("exits.")}


def merged(
    gathering: Products, state: State, arrivals: list[tuple[SubmodelPlan, float]]
) -> tuple[OpenRound, list[State]]:
    opened, found = OpenRound(gathering.layout, SHAPE.sizes), []
    for seed, (plan, weight) in enumerate(arrivals, start=1):
        received = extract(state, LAYOUT, plan)
        delta = trained(plan, received, seed)
        opened.fold(plan, gathering.update(plan, received, state, delta), weight)
        found.append({name: received[name] + change for name, change in delta.items()})
    return opened, found


def mean(parts: list[Tensor], weights: list[float]) -> Tensor:
    return sum(w * part for w, part in zip(weights, parts, strict=True)) / sum(weights)  # type: ignore[return-value]


def test_flexlora_is_the_mean_of_products_factored_anew():
    state = random_state(SHAPE)
    gathering, step = Products(shape=SHAPE, from_now=True), Refactored(shape=SHAPE, step=ServerStep())
    opened, found = merged(gathering, state, [(of_rank(1), 1.0), (of_rank(2), 3.0)])
    after, _ = step.apply(state, {}, opened.close())
    assert after.keys() == state.keys()
    for pair in pairs_of(SHAPE):
        wanted = mean([one[pair.b] @ one[pair.a] for one in found], [1.0, 3.0])
        left, sizes, right = torch.linalg.svd(wanted, full_matrices=False)
        best = left[:, :2] * sizes[:2] @ right[:2]
        assert torch.allclose(after[pair.b] @ after[pair.a], best, atol=1e-5)
        first = left[:, :1] * sizes[:1] @ right[:1]
        assert torch.allclose(after[pair.b][:, :1] @ after[pair.a][:1], first, atol=1e-5)
    head = "exits.1.head.weight"
    assert torch.allclose(after[head], mean([one[head] for one in found], [1.0, 3.0]), atol=1e-6)
    untouched = [name for name in state if not LAYOUT[name].adapter and not name.startswith("exits.")]
    assert all(after[name] is state[name] for name in untouched)


def test_equal_boards_of_full_rank_change_nothing_by_being_factored():
    state = random_state(SHAPE)
    opened = OpenRound(Products(shape=SHAPE, from_now=True).layout, SHAPE.sizes)
    whole = SHAPE.full_plan()
    nothing = {name: torch.zeros(e.shape) for name, e in LAYOUT.items() if e.adapter}
    opened.fold(whole, Products(shape=SHAPE, from_now=True).update(whole, state, state, nothing), 1.0)
    after, _ = Refactored(shape=SHAPE, step=ServerStep()).apply(state, {}, opened.close())
    was, now = products(state, SHAPE), products(after, SHAPE)
    assert all(torch.allclose(now[name], was[name], atol=1e-5) for name in was)


def test_flora_adds_the_mean_of_products_to_the_weights_and_begins_anew():
    state = {**random_state(SHAPE), **drawn(SHAPE, 0)}
    gathering, step = Products(shape=SHAPE, from_now=False), Folded(shape=SHAPE, seed=0)
    opened, found = merged(gathering, state, [(of_rank(1), 1.0), (of_rank(2), 3.0)])
    after, velocity = step.apply(state, {}, opened.close())
    for pair in pairs_of(SHAPE):
        grown = mean([one[pair.b] @ one[pair.a] for one in found], [1.0, 3.0])
        assert torch.allclose(after[pair.weight][pair.part], state[pair.weight][pair.part] + grown, atol=1e-5)
        assert not after[pair.b].any()
        assert not torch.equal(after[pair.a], state[pair.a])
    assert torch.equal(after["blocks.0.attention.qkv_weight"][1:], state["blocks.0.attention.qkv_weight"][1:])
    assert int(velocity["rounds"]) == 1
    again, _ = step.apply(after, velocity, merged(gathering, after, [(of_rank(2), 1.0)])[0].close())
    assert not torch.equal(again[A], after[A])


@pytest.mark.parametrize("step", [Refactored(shape=SHAPE, step=ServerStep()), Folded(shape=SHAPE, seed=0)])
def test_a_round_without_tensors_is_none(step: Refactored | Folded):
    """A dry run's."""
    gathering = Products(shape=SHAPE, from_now=isinstance(step, Refactored))
    assert gathering.update(of_rank(1), {}, {}, {}) == {}
    opened = OpenRound(gathering.layout, SHAPE.sizes)
    opened.fold(of_rank(1), {}, 1.0)
    assert step.apply({}, {}, opened.close())[0] == {}
    assert {product_name(pair) for pair in pairs_of(SHAPE)} <= gathering.layout.keys()
