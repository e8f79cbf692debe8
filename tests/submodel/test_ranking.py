from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import SMALL

from cosp.errors import ConfigError
from cosp.submodel.footprint import footprint
from cosp.submodel.plan import GROUPS
from cosp.submodel.ranking import unit_costs, unit_order, within_budget, worth_their_time
from cosp.submodel.selection import Scores, random_scores, summed

WHOLE = footprint(SMALL, SMALL.full_plan().counts)


def scores(seed: int = 0) -> Scores:
    drawn = random_scores(SMALL, 3, np.random.default_rng(seed))
    return tuple({group: np.abs(values) for group, values in block.items()} for block in drawn)


def test_a_unit_costs_what_the_model_saves_without_it():
    costs = unit_costs(SMALL)  # width 8, 5 tokens, two heads of 4, 6 hidden
    assert costs["heads"] == 2 * 5 * (3 * 4 * 8 + 2 * 5 * 4 + 4 * 8)
    assert costs["attention_rows"] == 2 * 5 * 8
    assert costs["hidden"] == 2 * 5 * (8 + 8)
    assert costs["ffn_rows"] == 2 * 5 * 6


def test_units_are_ordered_by_score_over_cost():
    costs = unit_costs(SMALL)
    order = unit_order(SMALL, scores())
    worth = [unit.score / costs[unit.group] for unit in order]
    assert worth == sorted(worth, reverse=True)
    assert len(order) == 3 * (2 + 8 + 6 + 8 - 4)  # the best of each group is held in any case


def test_units_are_taken_while_the_mean_grows():
    found, order = scores(), unit_order(SMALL, scores())
    count = worth_their_time(SMALL, order, found)
    costs = unit_costs(SMALL)
    value = sum(float(block[group].max()) for block in found for group in GROUPS)
    time = footprint(SMALL, within_budget(SMALL, [], found, 1.0).counts).forward_flops
    means = [value / time]
    for unit in order:
        value, time = value + unit.score, time + costs[unit.group]
        means.append(value / time)
    assert count == int(np.argmax(means))


@settings(max_examples=25)
@given(st.floats(0.6, 1.0), st.floats(0.6, 1.0), st.integers(0, 5))
def test_plans_fit_their_budget_and_smaller_ones_lie_inside_larger_ones(one, other, seed):
    found, order = scores(seed), unit_order(SMALL, scores(seed))
    low, high = (within_budget(SMALL, order, found, rate) for rate in sorted((one, other)))
    assert footprint(SMALL, low.counts).parameters <= min(one, other) * WHOLE.parameters
    for inner, outer in zip(low.blocks, high.blocks, strict=True):
        assert all(set(inner.of(group)) <= set(outer.of(group)) for group in GROUPS)


def test_the_whole_order_within_the_whole_budget_is_the_whole_model():
    assert within_budget(SMALL, unit_order(SMALL, scores()), scores(), 1.0) == SMALL.full_plan()


def test_a_budget_that_holds_nothing_is_refused():
    with pytest.raises(ConfigError, match="no submodel of all blocks"):
        within_budget(SMALL, unit_order(SMALL, scores()), scores(), 0.01)


def test_clients_scores_add_up():
    both = summed([scores(1), scores(2)])
    assert both[2]["hidden"].tolist() == (scores(1)[2]["hidden"] + scores(2)[2]["hidden"]).tolist()
