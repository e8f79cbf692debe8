from __future__ import annotations

import itertools
import math
from collections import defaultdict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import TINY, plans, random_state, random_update, same_units

from cosp.merge.aggregation import Merged, OpenRound, ServerStep
from cosp.submodel.layout import ParameterLayout
from cosp.submodel.plan import SubmodelPlan
from cosp.submodel.shape import layout_of
from cosp.submodel.slicing import State, extract

LAYOUT = layout_of(TINY)
FULL = TINY.full_plan()
Update = tuple[SubmodelPlan, State, float]


@st.composite
def updates(draw: st.DrawFn) -> list[Update]:
    seeds = draw(st.lists(st.integers(0, 1000), min_size=1, max_size=4))
    found = []
    for seed in seeds:
        plan = draw(plans(TINY))
        found.append((plan, random_update(TINY, plan, seed), draw(st.floats(0.1, 500))))
    return found


def merge(arrived: list[Update], *, over_all: bool = False) -> Merged:
    open_round = OpenRound(LAYOUT, TINY.sizes, over_all=over_all)
    for plan, delta, weight in arrived:
        open_round.fold(plan, delta, weight)
    return open_round.close()


def apply(arrived: list[Update], state: State, **step: float) -> State:
    return ServerStep(**step).apply(state, {}, merge(arrived))[0]


def place_in_submodel(entry: ParameterLayout, plan: SubmodelPlan, at: tuple[int, ...]) -> tuple[int, ...] | None:
    """Where the global entry ``at`` lies in the submodel's tensor, None if the plan does not keep it."""
    if not entry.held(plan.depth):
        return None
    place = []
    for index, axis in zip(at, entry.axes, strict=True):
        if axis is None:
            place.append(index)
            continue
        unit, offset = divmod(index, axis.entries)
        units = plan.blocks[entry.block].of(axis.group)
        if unit not in units:
            return None
        place.append(units.index(unit) * axis.entries + offset)
    return tuple(place)


def slow_mean(arrived: list[Update], *, over_all: bool) -> dict[tuple[str, tuple[int, ...]], float]:
    """The weighted mean update of every covered entry, one scalar at a time."""
    sums: dict[tuple[str, tuple[int, ...]], float] = defaultdict(float)
    weights: dict[tuple[str, tuple[int, ...]], float] = defaultdict(float)
    for plan, delta, weight in arrived:
        for name, entry in LAYOUT.items():
            for at in itertools.product(*map(range, entry.shape)):
                place = place_in_submodel(entry, plan, at)
                if place is not None:
                    sums[name, at] += weight * float(delta[name][place])
                    weights[name, at] += weight
    everybody = sum(weight for _, _, weight in arrived)
    return {key: sums[key] / (everybody if over_all else weights[key]) for key in sums}


@settings(max_examples=15)
@given(updates(), st.booleans())
def test_the_merge_is_the_weighted_mean_over_those_who_cover_an_entry(arrived, over_all):
    expected = slow_mean(arrived, over_all=over_all)
    merged = merge(arrived, over_all=over_all)
    found = {
        (name, at): float(delta[at])
        for name, delta in merged.delta.items()
        for at in itertools.product(*map(range, delta.shape))
        if (merged.mass[name] > 0).expand(delta.shape)[at]
    }
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)


@settings(max_examples=25)
@given(updates(), st.sampled_from([0.0, 0.9]))
def test_entries_nobody_covers_keep_their_bits(arrived, momentum):
    state, velocity = random_state(TINY, 5), random_state(TINY, 6)
    step = ServerStep(rate=0.7, momentum=momentum)
    covered = {key: torch.zeros(entry.shape) for key, entry in LAYOUT.items()}
    for name, at in slow_mean(arrived, over_all=False):
        covered[name][at] = 1
    new_state, new_velocity = step.apply(state, velocity, merge(arrived))
    for name, mask in covered.items():
        untouched = mask == 0
        assert torch.equal(new_state[name][untouched], state[name][untouched])
        assert torch.equal(new_velocity[name][untouched], velocity[name][untouched])
        assert torch.ne(new_state[name], state[name])[~untouched].all()


def test_equal_full_plans_with_sample_counts_as_weights_give_fedavg():
    state, samples = random_state(TINY), [10, 30, 60]
    trained = [random_state(TINY, seed) for seed in (1, 2, 3)]
    arrived = [
        (FULL, {name: t[name] - state[name] for name in state}, float(n)) for t, n in zip(trained, samples, strict=True)
    ]
    found = apply(arrived, state)
    for name in state:
        average = sum(n * t[name].double() for n, t in zip(samples, trained, strict=True)) / 100
        torch.testing.assert_close(found[name].double(), average, rtol=1e-6, atol=1e-6)


def test_one_client_at_rate_1_hands_over_its_weights():
    plan = same_units(2, heads=(1,), attention_rows=(0, 2), hidden=(2,), ffn_rows=(1,))
    state, delta = random_state(TINY), random_update(TINY, plan, 1)
    found = extract(apply([(plan, delta, 17.0)], state), LAYOUT, plan)
    for name, before in extract(state, LAYOUT, plan).items():
        torch.testing.assert_close(found[name], before + delta[name], rtol=1e-5, atol=1e-6)


@settings(max_examples=25)
@given(updates(), st.randoms(use_true_random=False))
def test_with_mass_1_the_merge_is_a_plain_mean_of_weighted_changes(arrived, random):
    del random
    open_round = OpenRound(LAYOUT, TINY.sizes)
    for plan, delta, weight in arrived:
        open_round.fold(plan, delta, weight, mass=1.0)
    merged = open_round.close()
    name = "class_token"  # everybody holds it
    expected = sum(weight * delta[name] for _, delta, weight in arrived) / len(arrived)
    torch.testing.assert_close(merged.delta[name], expected, rtol=1e-4, atol=1e-4)


def test_over_moved_an_arrival_counts_only_where_it_changed_something():
    open_round = OpenRound(LAYOUT, TINY.sizes, over_moved=True)
    for value, weight in ((3.0, 1.0), (0.0, 2.0), (6.0, 2.0)):
        delta = random_update(TINY, FULL, 1)
        delta["class_token"] = torch.tensor([[[value, 0.0, 1.0, value]]])
        open_round.fold(FULL, delta, weight)
    merged = open_round.close()
    assert merged.delta["class_token"].flatten().tolist() == pytest.approx([5.0, 0.0, 1.0, 5.0])
    assert (merged.mass["class_token"] > 0).flatten().tolist() == [True, False, True, True]


@settings(max_examples=25)
@given(updates(), st.randoms(use_true_random=False))
def test_the_order_of_arrivals_does_not_matter(arrived, random):
    shuffled = random.sample(arrived, len(arrived))
    state = random_state(TINY)
    first, second = apply(arrived, state), apply(shuffled, state)
    for name in state:
        torch.testing.assert_close(first[name], second[name], rtol=1e-5, atol=1e-6)


def test_an_arrival_of_weight_zero_covers_nothing():
    state = random_state(TINY)
    found = apply([(FULL, random_update(TINY, FULL, 1), 0.0)], state)
    assert all(torch.equal(found[name], state[name]) for name in state)


def test_a_round_without_arrivals_changes_nothing():
    state = random_state(TINY)
    assert apply([], state) == state
    assert OpenRound(LAYOUT, TINY.sizes).coverage(0) == 0.0


def test_folding_keeps_and_changes_no_update():
    delta = random_update(TINY, FULL, 1)
    before = {name: tensor.clone() for name, tensor in delta.items()}
    merged = merge([(FULL, delta, 2.0), (FULL, delta, 3.0)])
    assert all(torch.equal(delta[name], before[name]) for name in delta)
    assert not any(merged.delta[name] is delta[name] for name in delta)


def test_coverage_by_hand():
    open_round = OpenRound(LAYOUT, TINY.sizes)
    plan = same_units(1, heads=(0,), attention_rows=(1,), hidden=(0, 2), ffn_rows=(0, 1, 2))
    open_round.fold(plan, random_update(TINY, plan, 0), 1.0)
    # width 4, two heads of 2, 3 hidden: norms 16; q, k, v 6 x (4 + 1); out 2 + 1; up 2 x (4 + 1); down 3 x 2 + 3
    kept = 16 + 30 + 3 + 10 + 9
    whole = 16 + 12 * 5 + 4 * 4 + 4 + 3 * 5 + 4 * 3 + 4
    assert open_round.coverage(0) == pytest.approx(kept / whole)
    assert open_round.coverage(1) == 0.0
    open_round.fold(FULL, random_update(TINY, FULL, 0), 1.0)
    assert (open_round.coverage(0), open_round.coverage(1), open_round.arrivals) == (1.0, 1.0, 2)


def test_two_plans_cover_two_boxes_not_the_box_around_both():
    open_round = OpenRound(LAYOUT, TINY.sizes)
    for unit in (0, 1):
        plan = same_units(1, heads=(unit,), attention_rows=(unit,), hidden=(unit,), ffn_rows=(unit,))
        open_round.fold(plan, random_update(TINY, plan, unit), 1.0)
    covered = {name: mass > 0 for name, mass in open_round.close().mass.items()}
    assert covered["blocks.0.attention.out.weight"].int().tolist() == [[1, 1, 0, 0], [0, 0, 1, 1], [0] * 4, [0] * 4]
    assert covered["blocks.0.ffn.down.weight"].int().tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 0]]


@given(updates())
def test_coverage_counts_what_the_merge_covers_with_or_without_tensors(found):
    whole, dry = OpenRound(LAYOUT, TINY.sizes), OpenRound(LAYOUT, TINY.sizes)
    for plan, delta, weight in found:
        whole.fold(plan, delta, weight)
        dry.fold(plan, {}, weight)
    covered = {name: mass > 0 for name, mass in whole.close().mass.items()}
    for block in range(TINY.blocks):
        entries = {name: entry for name, entry in LAYOUT.items() if entry.block == block}
        total = sum(math.prod(entry.shape) for entry in entries.values())
        count = sum(int(covered[name].expand(e.shape).sum()) for name, e in entries.items() if name in covered)
        assert whole.coverage(block) == dry.coverage(block) == count / total
    assert dry.close() == Merged({}, {})


def one_entry(delta: float) -> Merged:
    return Merged({"w": torch.tensor([delta, 0.0])}, {"w": torch.tensor([True, False])})


def test_momentum_by_hand():
    step = ServerStep(rate=0.5, momentum=0.5)
    state, velocity = step.apply({"w": torch.tensor([1.0, 7.0])}, {}, one_entry(2.0))
    assert (state["w"].tolist(), velocity["w"].tolist()) == ([2.0, 7.0], [2.0, 0.0])
    state, velocity = step.apply(state, velocity, one_entry(1.0))
    assert (state["w"].tolist(), velocity["w"].tolist()) == ([3.0, 7.0], [2.0, 0.0])


def test_a_step_makes_new_tensors_and_keeps_the_old_version():
    before = {"w": torch.tensor([1.0, 7.0]), "untouched": torch.ones(2)}
    after, _ = ServerStep().apply(before, {}, one_entry(2.0))
    assert before["w"].tolist() == [1.0, 7.0]
    assert after["w"].tolist() == [3.0, 7.0]
    assert after["untouched"] is before["untouched"]


@pytest.mark.parametrize(("other", "drift"), [(1.0, 0.0), (-1.0, 1.0), (3.0, math.sqrt(1 / 5))])
def test_drift_is_none_where_updates_agree_and_all_where_they_cancel_out(other, drift):
    one = random_update(TINY, FULL, 1)
    arrived = [(FULL, one, 2.0), (FULL, {name: other * change for name, change in one.items()}, 2.0)]
    assert merge(arrived).drift == pytest.approx(drift, abs=1e-3)


@given(updates())
def test_drift_is_the_weighted_distance_from_the_mean_of_those_who_cover(arrived):
    merged = merge(arrived)
    apart = sum(w * float(((d[n] - extract(merged.delta, LAYOUT, p)[n]) ** 2).sum()) for p, d, w in arrived for n in d)
    length = sum(w * float((d[n] ** 2).sum()) for p, d, w in arrived for n in d)
    assert merged.drift == pytest.approx(math.sqrt(apart / length), abs=1e-3)
