"""Robust rules: by hand on printed numbers, against a slow obvious version, and what must hold of all of them."""

from __future__ import annotations

import itertools
import math
import statistics

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import TINY, plans, random_state, random_update, same_units

from cosp.errors import RefusedUpdate
from cosp.merge import arrived as arrived_module
from cosp.merge.aggregation import Merged, OpenRound
from cosp.merge.gathered import GatheredRound
from cosp.merge.robust import RULES, robust
from cosp.submodel.layout import ParameterLayout
from cosp.submodel.plan import SubmodelPlan
from cosp.submodel.shape import layout_of
from cosp.submodel.slicing import State, extract

LAYOUT = layout_of(TINY)
FULL = TINY.full_plan()
NARROW = same_units(1, heads=(1,), attention_rows=(0, 2), hidden=(2,), ffn_rows=(1,))
"""One of two blocks, and of that one unit or two of each group."""
Update = tuple[SubmodelPlan, State, float]
every_rule = pytest.mark.parametrize("rule", RULES)


def merge(rule: str, arrived: list[Update], attackers: float = 0.2) -> Merged:
    made = robust(rule, attackers)  # type: ignore[arg-type]
    assert made is not None
    gathered = GatheredRound(LAYOUT, TINY.sizes, rule=made)
    for plan, delta, weight in arrived:
        gathered.fold(plan, delta, weight)
    return gathered.close()


def constant(plan: SubmodelPlan, value: float) -> State:
    """An update that changes every entry by ``value``."""
    return {name: torch.full_like(part, value) for name, part in random_update(TINY, plan, 0).items()}


def values(*found: float, plan: SubmodelPlan = FULL) -> list[Update]:
    return [(plan, constant(plan, value), 1.0) for value in found]


def everywhere(merged: Merged, plan: SubmodelPlan = FULL) -> list[float]:
    """The different values that a merge has at the entries of ``plan``, rounded."""
    parts = extract(merged.delta, {name: LAYOUT[name] for name in merged.delta}, plan)
    return sorted({round(float(entry), 5) for part in parts.values() for entry in part.flatten()})


def moved(merged: Merged) -> dict[str, torch.Tensor]:
    """Where a merge moves the model."""
    found = {name: torch.zeros(entry.shape, dtype=torch.bool) for name, entry in LAYOUT.items()}
    for name, delta in merged.delta.items():
        found[name] = (merged.mass[name] > 0).expand(delta.shape)
    return found


def where(plan: SubmodelPlan) -> dict[str, torch.Tensor]:
    """The entries of ``plan``."""
    ones = extract({name: torch.ones(entry.shape) for name, entry in LAYOUT.items()}, LAYOUT, plan)
    round_ = OpenRound(LAYOUT, TINY.sizes)
    round_.fold(plan, ones, 1.0)
    return moved(round_.close())


BY_HAND = [
    # five who cover all: 1, 2, 3, 4 and one wild; attackers 0.2: one of five
    ("trimmed_mean", [1.0, 2.0, 3.0, 4.0, 1000.0], 3.0),  # of 2, 3, 4
    ("median", [1.0, 2.0, 3.0, 4.0, 1000.0], 3.0),
    ("median", [1.0, 2.0, 3.0, 1000.0], 2.5),
    # squares to the two nearest: 1: 1 + 4, 2: 1 + 1, 3: 1 + 1, 4: 1 + 4; the first of the best
    ("krum", [1.0, 2.0, 3.0, 4.0, 1000.0], 2.0),
    ("multi_krum", [1.0, 2.0, 3.0, 4.0, 1000.0], 2.5),
    ("norm_filter", [1.0, 2.0, 3.0, 4.0, -1000.0], 2.5),
    ("geometric_median", [1.0, 2.0, 3.0, 4.0, 1000.0], 3.0),  # on a line it is the median
]


@pytest.mark.parametrize(("rule", "sent", "expected"), BY_HAND)
def test_one_wild_update_of_five_by_hand(rule: str, sent: list[float], expected: float):
    assert everywhere(merge(rule, values(*sent))) == pytest.approx([expected], abs=2e-3)


BY_HAND_PARTLY = [
    # full: 0, 2, 3.5; narrow: 5, 6; so all five cover NARROW, three the rest
    ("trimmed_mean", (2 + 3.5 + 5) / 3, 2.0),
    ("median", 3.5, 2.0),
    # squares to the two nearest, where both cover: 0: 4 + 12.25, 2: 2.25 + 4, 3.5: 2.25 + 2.25, 5: 1 + 2.25,
    # 6: 1 + 6.25
    ("krum", 5.0, None),  # which covers no more
    ("multi_krum", (2 + 3.5 + 5 + 6) / 4, (2 + 3.5) / 2),
    ("norm_filter", (0 + 2 + 3.5 + 5) / 4, (0 + 2 + 3.5) / 3),
]


@pytest.mark.parametrize(("rule", "shared", "rest"), BY_HAND_PARTLY)
def test_partial_coverage_by_hand(rule: str, shared: float, rest: float | None):
    merged = merge(rule, values(0.0, 2.0, 3.5) + values(5.0, 6.0, plan=NARROW))
    inside, moves = where(NARROW), moved(merged)
    for name, entry in LAYOUT.items():
        delta = merged.delta.get(name, torch.zeros(entry.shape))
        torch.testing.assert_close(delta[inside[name]], torch.full_like(delta[inside[name]], shared))
        assert bool(moves[name][~inside[name]].all()) or rest is None
        if rest is None:
            assert not moves[name][~inside[name]].any()
        else:
            torch.testing.assert_close(delta[~inside[name]], torch.full_like(delta[~inside[name]], rest))


def test_the_geometric_median_of_partly_covered_entries_is_where_no_step_leads_away():
    arrived = [
        (plan, random_update(TINY, plan, seed), 1.0 + seed) for seed, plan in enumerate([FULL] * 4 + [NARROW] * 3)
    ]
    merged = merge("geometric_median", arrived)
    pulls = {name: torch.zeros(entry.shape, dtype=torch.float64) for name, entry in LAYOUT.items()}
    for plan, update, weight in arrived:
        differences = {n: part.double() - extract(merged.delta, LAYOUT, plan)[n] for n, part in update.items()}
        away = math.sqrt(statistics.fmean(float(d) ** 2 for part in differences.values() for d in part.flatten()))
        for name, part in differences.items():
            full = torch.zeros(pulls[name].shape, dtype=torch.float64)
            full[where(plan)[name]] = (part * weight / away).flatten()
            pulls[name] += full
    assert max(float(pull.abs().max()) for pull in pulls.values()) < 1e-2


def test_weights_count_among_those_who_are_left():
    arrived = [
        (FULL, constant(FULL, value), weight) for value, weight in zip((0, 1, 2, 50, 90), (9, 1, 3, 4, 9), strict=True)
    ]
    assert everywhere(merge("trimmed_mean", arrived)) == pytest.approx([(1 * 1 + 2 * 3 + 50 * 4) / 8])
    assert everywhere(merge("median", arrived)) == [2.0]


@st.composite
def many(draw: st.DrawFn, least: int = 5) -> list[Update]:
    seeds = draw(st.lists(st.integers(0, 1000), min_size=least, max_size=8, unique=True))
    found = [(draw(plans(TINY)), seed, draw(st.floats(0.5, 50))) for seed in seeds]
    return [(plan, random_update(TINY, plan, seed), weight) for plan, seed, weight in found]


def place_in_submodel(entry: ParameterLayout, plan: SubmodelPlan, at: tuple[int, ...]) -> tuple[int, ...] | None:
    """Where the global entry ``at`` lies in the submodel's tensor, None if the plan does not keep it."""
    if not entry.held(plan.depth):
        return None
    place = []
    for index, axis in zip(at, entry.axes, strict=True):
        unit, offset = divmod(index, axis.entries) if axis else (index, 0)
        units = plan.blocks[entry.block].of(axis.group) if axis else None
        if units is not None and unit not in units:
            return None
        place.append(index if units is None else units.index(unit) * axis.entries + offset)
    return tuple(place)


def slow(rule: str, sent: list[tuple[float, float]], attackers: float) -> float:
    """What a rule makes of the (value, weight) of those who cover an entry."""
    ordered = sorted(sent)
    if rule == "median":
        return statistics.median(value for value, _ in ordered)
    cut = min(math.ceil(attackers * len(ordered)), (len(ordered) - 1) // 2)
    left = ordered[cut : len(ordered) - cut]
    return sum(value * weight for value, weight in left) / sum(weight for _, weight in left)


@settings(max_examples=15, deadline=None)
@given(many(), st.sampled_from(["trimmed_mean", "median"]), st.sampled_from([0.15, 0.35]))
def test_each_entry_is_merged_by_those_who_cover_it_and_left_where_they_are_fewer_than_three(arrived, rule, attackers):
    merged = merge(rule, arrived, attackers)
    moves = moved(merged)
    for name, entry in LAYOUT.items():
        for at in itertools.product(*map(range, entry.shape)):
            places = [(delta, place_in_submodel(entry, plan, at), weight) for plan, delta, weight in arrived]
            sent = [(float(delta[name][place]), weight) for delta, place, weight in places if place is not None]
            assert bool(moves[name][at]) == (len(sent) >= 3)
            if len(sent) >= 3:
                assert float(merged.delta[name][at]) == pytest.approx(slow(rule, sent, attackers), rel=1e-4, abs=1e-5)


@every_rule
@settings(max_examples=4, deadline=None)
@given(arrived=many(), seed=st.integers(0, 99))
def test_if_all_updates_are_equal_every_rule_gives_that(rule, arrived, seed):
    whole = random_state(TINY, seed)
    same = [(plan, extract(whole, LAYOUT, plan), weight) for plan, _, weight in arrived]
    merged = merge(rule, same)
    moves = moved(merged)
    for name, delta in merged.delta.items():
        torch.testing.assert_close(delta[moves[name]], whole[name][moves[name]], rtol=1e-4, atol=1e-5)


@every_rule
@settings(max_examples=4, deadline=None)
@given(arrived=many(), turn=st.integers(1, 4))
def test_the_order_of_arrival_changes_nothing_beyond_rounding(rule, arrived, turn):
    one, two = merge(rule, arrived), merge(rule, [*arrived[turn:], *arrived[:turn]][::-1])
    for name, delta in one.delta.items():
        moves = moved(one)[name]
        assert torch.equal(moves, moved(two).get(name, torch.zeros_like(moves)))
        torch.testing.assert_close(delta[moves], two.delta[name][moves], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("wild", [-1e30, -5.0, 0.0, 5.0, 1e30])
def test_one_wild_client_of_seven_leaves_the_median_within_the_honest_range(wild: float):
    honest = [(FULL, random_update(TINY, FULL, seed), 1.0) for seed in range(6)]
    merged = merge("median", [*honest, *values(wild)])
    for name, delta in merged.delta.items():
        sent = torch.stack([update[name] for _, update, _ in honest])
        assert bool(((delta >= sent.min(0).values) & (delta <= sent.max(0).values)).all())


@every_rule
@pytest.mark.parametrize("wild", [1e3, -1e3, 1e30])
def test_two_wild_clients_of_ten_do_not_carry_a_merge_away(rule: str, wild: float):
    honest = [(FULL, random_update(TINY, FULL, seed), 1.0) for seed in range(8)]
    sent = [
        *honest,
        *(
            (FULL, {name: part * wild for name, part in random_update(TINY, FULL, seed).items()}, 1.0)
            for seed in (8, 9)
        ),
    ]
    merged = merge(rule, sent)
    most = max(float(part.abs().max()) for _, update, _ in honest for part in update.values())
    assert max(float(delta.abs().max()) for delta in merged.delta.values()) <= most


@every_rule
def test_who_covers_an_entry_alone_does_not_move_it(rule: str):
    wide = [(FULL, constant(FULL, 1.0), 1.0)] * 2
    merged = merge(rule, [*wide, *values(1.0, 1.0, 1.0, plan=NARROW)])
    assert {name: found.tolist() for name, found in moved(merged).items()} == {
        name: found.tolist() for name, found in where(NARROW).items()
    }


@every_rule
def test_fewer_arrivals_than_a_rule_needs_are_refused(rule: str):
    needs = RULES[rule](0.2).needs
    with pytest.raises(RefusedUpdate, match=f"few: {needs - 1} updates, {rule} needs {needs}"):
        merge(rule, values(*[1.0] * (needs - 1)))
    assert everywhere(merge(rule, values(*[1.0] * needs))) == [1.0]


@every_rule
def test_pieces_of_a_row_give_what_whole_tensors_give(rule: str, monkeypatch: pytest.MonkeyPatch):
    arrived = [
        (plan, random_update(TINY, plan, seed), 1.0 + seed) for seed, plan in enumerate([FULL] * 4 + [NARROW] * 3)
    ]
    whole = merge(rule, arrived)
    monkeypatch.setattr(arrived_module, "PIECE", 1)
    for name, delta in merge(rule, arrived).delta.items():
        torch.testing.assert_close(delta, whole.delta[name], rtol=1e-4, atol=1e-5)


def test_the_share_of_a_block_that_is_covered_counts_what_moves():
    rule = robust("median", 0.2)
    assert rule is not None
    gathered = GatheredRound(LAYOUT, TINY.sizes, rule=rule)
    for plan, delta, weight in values(1.0, 1.0) + values(1.0, 1.0, plan=NARROW):
        gathered.fold(plan, delta, weight)
    moves = moved(gathered.close())
    for block in range(TINY.blocks):
        names = [name for name, entry in LAYOUT.items() if entry.block == block]
        entries = sum(moves[name].numel() for name in names)
        assert gathered.coverage(block) == pytest.approx(sum(int(moves[name].sum()) for name in names) / entries)
    assert gathered.coverage(0) > gathered.coverage(1) == 0
