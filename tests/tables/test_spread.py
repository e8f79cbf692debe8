from __future__ import annotations

import pytest

from cosp.tables.spread import Spread, paired, spread


def test_the_interval_of_three_seeds_by_hand():
    found = spread([0.1, 0.2, 0.3])
    assert (found.mean, found.sd, found.count) == (pytest.approx(0.2), pytest.approx(0.1), 3)
    assert found.half == pytest.approx(4.302653 * 0.1 / 3**0.5)  # Student's t, two degrees of freedom


def test_one_seed_has_a_mean_and_no_more():
    assert spread([0.1]) == Spread(0.1, None, None, 1)


def test_what_is_not_known_is_left_out_and_nothing_known_is_nothing():
    assert spread([None, 0.1, 0.3]).count == 2
    assert spread([None, None]) is None


def test_differences_are_of_the_same_seeds():
    found = paired({0: 0.9, 1: 0.5, 2: 0.7}, {0: 0.8, 1: 0.4, 3: 0.1})
    assert (found.mean, found.sd, found.count) == (pytest.approx(0.1), pytest.approx(0.0), 2)


def test_ranges_of_an_accuracy_end_where_accuracies_do():
    found = spread([0.98, 1.0, 0.9])
    assert found.mean + found.half > 1
    assert found.range(0.0, 1.0) == (pytest.approx(found.mean - found.half), 1.0)
    assert found.bars(0.0, 1.0) == ([found.sd], [pytest.approx(1.0 - found.mean)])
    assert Spread(0.1, None, None, 1).bars(0.0, 1.0) is None
