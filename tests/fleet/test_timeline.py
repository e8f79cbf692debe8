from __future__ import annotations

import math
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosp.fleet import Timeline

delays = st.lists(st.floats(0, 1e6), min_size=1, max_size=20)


def test_ties_run_in_scheduling_order():
    timeline, seen = Timeline(), []
    for name in ("phone", "laptop"):
        timeline.after(2.0, partial(seen.append, name))
    timeline.run()
    assert (seen, timeline.now_s) == (["phone", "laptop"], 2.0)


def test_run_stops_at_the_given_time_and_includes_it():
    timeline, seen = Timeline(), []
    for time_s in (1.0, 2.0, 3.0):
        timeline.at(time_s, partial(seen.append, time_s))
    timeline.run(until_s=2.0)
    assert (seen, timeline.now_s, timeline.next_s) == ([1.0, 2.0], 2.0, 3.0)


def test_an_action_may_schedule_another_at_the_same_moment():
    timeline, seen = Timeline(), []
    timeline.after(1.0, lambda: timeline.after(0.0, partial(seen.append, "second")))
    timeline.after(1.0, partial(seen.append, "first"))
    timeline.run()
    assert seen == ["first", "second"]


def test_a_step_runs_one_action_and_says_when_none_is_left():
    timeline = Timeline()
    timeline.after(5.0, lambda: None)
    assert (timeline.step(), timeline.now_s, timeline.next_s, timeline.step()) == (True, 5.0, math.inf, False)


def test_time_does_not_stop_at_what_was_cancelled():
    timeline, seen = Timeline(), []
    timeline.cancel(timeline.at(1.0, partial(seen.append, "cancelled")))
    timeline.at(2.0, partial(seen.append, "done"))
    last = timeline.at(3.0, partial(seen.append, "cancelled"))
    assert timeline.next_s == 2.0
    timeline.cancel(last)
    timeline.run()
    assert (seen, timeline.now_s, timeline.next_s) == (["done"], 2.0, math.inf)


@pytest.mark.parametrize("delay_s", [-1.0, math.nan, math.inf])
def test_a_delay_that_is_no_future_moment_is_refused(delay_s):
    with pytest.raises(ValueError, match="delay_s must be finite and >= 0"):
        Timeline().after(delay_s, lambda: None)


@pytest.mark.parametrize("time_s", [0.5, math.nan, math.inf])
def test_the_past_is_refused(time_s):
    timeline = Timeline()
    timeline.after(1.0, lambda: None)
    timeline.run()
    with pytest.raises(ValueError, match="time_s must be finite and >= now"):
        timeline.at(time_s, lambda: None)


def test_running_until_no_time_is_refused():
    with pytest.raises(ValueError, match="until_s"):
        Timeline().run(until_s=math.nan)


@given(delays)
def test_time_never_goes_back_and_order_is_a_stable_sort(times):
    timeline, seen = Timeline(), []
    for position, time_s in enumerate(times):
        timeline.at(time_s, lambda position=position: seen.append((timeline.now_s, position)))
    timeline.run()
    assert seen == sorted(zip(times, range(len(times)), strict=True))
