from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosp.fleet import Throttle

PI = Throttle(after_s=100, slowdown=2.0, recover_s=50)
seconds = st.floats(0, 1e4)


def test_by_hand():
    assert PI.compute_s(80, heat_s=0) == 80  # done before it is hot
    assert PI.compute_s(80, heat_s=60) == 40 + 2 * 40  # hot half-way
    assert PI.compute_s(80, heat_s=100) == 160
    assert (PI.warmed(60, 30), PI.warmed(60, 300)) == (90, 100)
    assert (PI.cooled(100, 25), PI.cooled(100, 60)) == (50, 0)


@given(seconds, seconds, st.floats(0, 100))
def test_work_in_two_pieces_without_a_rest_takes_as_long_as_in_one(first, second, heat):
    whole = PI.compute_s(first + second, heat)
    split = PI.compute_s(first, heat)
    split += PI.compute_s(second, PI.warmed(heat, split))
    assert split == pytest.approx(whole)


@given(seconds, st.floats(0, 100), st.floats(0, 100))
def test_a_hotter_board_is_no_faster_and_none_beats_a_cold_one(work, one, other):
    cold, hot = sorted((one, other))
    assert work <= PI.compute_s(work, cold) <= PI.compute_s(work, hot) <= 2 * work


@pytest.mark.parametrize(("field", "value"), [("after_s", -1), ("slowdown", 0.5), ("recover_s", 0)])
def test_what_cannot_be_is_refused(field, value):
    with pytest.raises(ValueError, match=f"throttle: {field} must be"):
        Throttle(**{"after_s": 1, "slowdown": 2, "recover_s": 1, field: value})
