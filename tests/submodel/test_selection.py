from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_models import SMALL

from cosp.seeds import numpy_stream
from cosp.submodel import selection
from cosp.submodel.budget import SubmodelShape
from cosp.submodel.plan import GroupSizes
from cosp.submodel.selection import Choice, Rule, choose_plan

HALF = SubmodelShape(2, GroupSizes(heads=1, attention_rows=4, hidden=3, ffn_rows=4))
SCORES = selection.random_scores(SMALL, 3, np.random.default_rng(0))
RULES: dict[str, Rule] = {
    "prefix": selection.prefix,
    "top": selection.top,
    "rolling": selection.rolling,
    "core_rolling": selection.core_rolling(0.5),
    "random": selection.random,
    "gumbel": selection.gumbel,
}
UNBOUNDED: dict[str, Rule] = {**RULES, "bernoulli": selection.bernoulli}


def test_scores_of_fewer_blocks_than_are_held_whole_are_not_looked_at():
    scores = selection.random_scores(SMALL, 1, np.random.default_rng(0))
    whole = SubmodelShape(SMALL.blocks, SMALL.sizes)
    plan = choose_plan(SMALL, whole, selection.core_rolling(), scores=scores, seed=0, client=0, turn=3)
    assert plan == SMALL.full_plan()


def choice(*, size: int, keep: int, turn: int = 0, start: float = 0.0, scores: object = None, seed: int = 0) -> Choice:
    values = None if scores is None else np.asarray(scores, dtype=float)
    return Choice(size, keep, turn, start, values, lambda: np.random.default_rng(seed))


def plan_by(rule: Rule, *, shape: SubmodelShape = HALF, seed: int = 0, client: int = 0, turn: int = 0):
    return choose_plan(SMALL, shape, rule, scores=SCORES, seed=seed, client=client, turn=turn)


@given(st.sampled_from(sorted(RULES)), st.integers(2, 40), st.data())
def test_a_rule_keeps_as_many_units_as_asked_and_none_twice(name, size, data):
    keep, turn = data.draw(st.integers(1, size - 1)), data.draw(st.integers(0, 100))
    start = data.draw(st.floats(0, 1, exclude_max=True))
    scores = numpy_stream(0, "scores", size).normal(size=size)
    units = RULES[name](choice(size=size, keep=keep, turn=turn, start=start, scores=scores))
    assert len(set(units.tolist())) == keep
    assert set(units.tolist()) <= set(range(size))


@given(st.integers(2, 40), st.floats(0, 1), st.data())
def test_a_window_sees_every_unit_within_as_many_turns_as_it_needs(size, share, data):
    keep = data.draw(st.integers(1, size - 1))
    start = data.draw(st.floats(0, 1, exclude_max=True))
    core = round(share * keep)
    if core == keep:
        return  # nothing rolls
    rule, scores = selection.core_rolling(share), np.arange(size)
    turns = math.ceil((size - core) / (keep - core))
    seen = [rule(choice(size=size, keep=keep, turn=t, start=start, scores=scores)).tolist() for t in range(turns)]
    assert {unit for units in seen for unit in units} == set(range(size))
    best = set(range(size - core, size))
    assert all(best <= set(units) for units in seen)


def test_prefix_top_and_windows_by_hand():
    scores = [0.1, 0.9, 0.5, 0.9, 0.0]
    assert selection.prefix(choice(size=5, keep=2)).tolist() == [0, 1]
    assert selection.top(choice(size=5, keep=3, scores=scores)).tolist() == [1, 3, 2]
    windows = [selection.rolling(choice(size=5, keep=2, turn=turn)).tolist() for turn in range(4)]
    assert windows == [[0, 1], [2, 3], [4, 0], [1, 2]]
    assert selection.rolling(choice(size=5, keep=2, start=0.5)).tolist() == [2, 3]
    rule = selection.core_rolling(0.5)  # a core of one, the window over the other four
    windows = [rule(choice(size=5, keep=2, turn=turn, scores=scores)).tolist() for turn in range(4)]
    assert windows == [[1, 0], [1, 2], [1, 3], [1, 4]]


def test_the_core_share_spans_rolling_to_top():
    scores = np.arange(6)[::-1]
    for turn in range(3):
        asked = {"size": 6, "keep": 2, "turn": turn, "scores": scores}
        assert selection.core_rolling(1.0)(choice(**asked)).tolist() == selection.top(choice(**asked)).tolist()
        assert selection.core_rolling(0.0)(choice(**asked)).tolist() == selection.rolling(choice(**asked)).tolist()


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_core_share_is_a_share(share):
    with pytest.raises(ValueError, match="core_share"):
        selection.core_rolling(share)


def test_random_units_favour_none():
    counts = np.bincount(np.concatenate([selection.random(choice(size=5, keep=2, seed=s)) for s in range(2000)]))
    assert counts / 2000 == pytest.approx(np.full(5, 0.4), abs=0.05)


def test_gumbel_draws_one_unit_with_the_probability_of_its_softmax():
    scores = np.log([1.0, 2.0, 5.0])
    drawn = [int(selection.gumbel(choice(size=3, keep=1, scores=scores, seed=seed))[0]) for seed in range(4000)]
    assert np.bincount(drawn) / 4000 == pytest.approx(np.array([1, 2, 5]) / 8, abs=0.03)


def test_bernoulli_keeps_each_unit_with_probability_sigmoid_of_its_score():
    scores = [-100.0, 100.0, 0.0]
    drawn = [selection.bernoulli(choice(size=3, keep=1, scores=scores, seed=seed)).tolist() for seed in range(1000)]
    assert {tuple(units) for units in drawn} == {(1,), (1, 2)}
    assert sum(2 in units for units in drawn) / 1000 == pytest.approx(0.5, abs=0.05)


def test_bernoulli_is_drawn_again_until_a_unit_is_kept():
    assert all(len(selection.bernoulli(choice(size=3, keep=1, scores=[-3.0] * 3, seed=s))) for s in range(200))
    assert selection.bernoulli(choice(size=3, keep=1, scores=[-60.0, -50.0, -60.0])).tolist() == [1]


@pytest.mark.parametrize("name", ["top", "core_rolling", "gumbel", "bernoulli"])
def test_a_rule_that_reads_scores_asks_for_them(name):
    with pytest.raises(ValueError, match="needs scores"):
        UNBOUNDED[name](choice(size=3, keep=1))


@pytest.mark.parametrize("name", sorted(UNBOUNDED))
def test_a_budget_for_everything_keeps_everything(name):
    shape = SubmodelShape(3, SMALL.sizes)
    assert plan_by(UNBOUNDED[name], shape=shape) == SMALL.full_plan()


@pytest.mark.parametrize("name", sorted(UNBOUNDED))
def test_plans_are_a_function_of_seed_client_and_turn(name):
    first = plan_by(UNBOUNDED[name], seed=1, client=2, turn=3)
    plan_by(UNBOUNDED[name], seed=1, client=5, turn=0)  # another client's plan in between changes nothing
    assert plan_by(UNBOUNDED[name], seed=1, client=2, turn=3) == first


@pytest.mark.parametrize("name", ["random", "gumbel", "bernoulli"])
def test_drawn_plans_differ_by_seed_client_and_turn(name):
    rule = UNBOUNDED[name]
    plans = {plan_by(rule), plan_by(rule, seed=1), plan_by(rule, client=1), plan_by(rule, turn=1)}
    assert len(plans) == 4


@pytest.mark.parametrize("name", sorted(RULES))
def test_a_plan_has_the_shape_it_was_asked_for(name):
    assert plan_by(RULES[name]).counts == (HALF.counts,) * 2
