from __future__ import annotations

import json
from fractions import Fraction
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosp.fleet import ServerLink, SharedLink, Timeline, fair_rates

limits = st.lists(st.integers(1, 100), min_size=1, max_size=8)
transfers = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 500), st.integers(1, 40)), min_size=1, max_size=8)
"""(start in s, bytes, own limit in bytes/s), one a client."""


def ends(found: list[tuple[int, int, int]], capacity: float) -> list[float]:
    """When each transfer ends, in the order of clients."""
    timeline, ended = Timeline(), dict[int, float]()
    link = SharedLink(
        timeline, capacity, [limit for _, _, limit in found], lambda client: ended.update({client: timeline.now_s})
    )
    for client, (start_s, payload, _) in enumerate(found):
        timeline.at(start_s, partial(link.join, client, payload))
    timeline.run()
    return [ended[client] for client in range(len(found))]


def slow_rates(limits: list[Fraction], capacity: Fraction) -> list[Fraction]:
    """Progressive filling: raise all rates together, freeze those at their limit, until nothing is left."""
    rates, rising = [Fraction(0)] * len(limits), set(range(len(limits)))
    while rising and capacity > 0:
        step = min(min(limits[i] - rates[i] for i in rising), capacity / len(rising))
        for i in rising:
            rates[i] += step
        capacity -= step * len(rising)
        rising = {i for i in rising if rates[i] < limits[i]}
    return rates


def slow_ends(found: list[tuple[int, int, int]], capacity: int) -> list[float]:
    """The same in exact fractions, one straight stretch after another."""
    left = {i: Fraction(payload) for i, (_, payload, _) in enumerate(found)}
    ended, now = dict[int, Fraction](), Fraction(0)
    while left:
        moving = [i for i in left if found[i][0] <= now]
        rates = dict(zip(moving, slow_rates([Fraction(found[i][2]) for i in moving], Fraction(capacity)), strict=True))
        upcoming = [Fraction(found[i][0]) - now for i in left if found[i][0] > now]
        step = min([left[i] / rates[i] for i in moving] + upcoming)
        now += step
        for i in moving:
            left[i] -= rates[i] * step
            if left[i] == 0:
                ended[i] = now
                del left[i]
    return [float(ended[i]) for i in range(len(found))]


def test_fair_rates_by_hand():
    assert fair_rates(np.array([10.0, 2.0, 10.0]), 12.0).tolist() == [5.0, 2.0, 5.0]
    assert fair_rates(np.array([1.0, 2.0]), 12.0).tolist() == [1.0, 2.0]
    assert fair_rates(np.array([]), 12.0).tolist() == []


@given(limits, st.integers(1, 300))
def test_fair_rates_are_those_of_progressive_filling(limits, capacity):
    rates = fair_rates(np.array(limits, dtype=float), capacity)
    expected = slow_rates([Fraction(limit) for limit in limits], Fraction(capacity))
    assert rates.tolist() == pytest.approx([float(rate) for rate in expected])
    assert rates.sum() == pytest.approx(min(capacity, sum(limits)))


@given(st.integers(1, 20), st.integers(1, 1000))
def test_n_equal_transfers_take_n_times_as_long(n, payload):
    assert ends([(0, payload, 100)] * n, capacity=100.0) == pytest.approx([n * payload / 100] * n)


def test_a_transfer_that_joins_halves_the_rate_until_the_other_ends():
    # 10 bytes/s: the first has 50 left at 5 s, shares until 15 s; the second has 50 left then and the link to itself
    assert ends([(0, 100, 10), (5, 100, 10)], capacity=10.0) == [15.0, 20.0]


def test_a_slow_link_leaves_the_rest_to_others():
    assert ends([(0, 20, 2), (0, 80, 10)], capacity=10.0) == [10.0, 10.0]


def test_nothing_to_send_ends_at_once():
    assert ends([(3, 0, 10)], capacity=10.0) == [3.0]


@settings(deadline=None)
@given(transfers, st.integers(1, 60))
def test_ends_are_those_of_an_exact_simulation(found, capacity):
    assert ends(found, capacity) == pytest.approx(slow_ends(found, capacity), rel=1e-9, abs=1e-9)


@given(transfers, st.integers(1, 60))
def test_the_link_never_idles_while_somebody_could_use_it(found, capacity):
    """Work conservation: with limits that never bind, all ends lie where one queue would have ended."""
    wide = [(start_s, payload, capacity) for start_s, payload, _ in found]
    free_s = 0.0
    for start_s, payload, _ in sorted(wide):
        free_s = max(free_s, start_s) + payload / capacity
    assert max(ends(wide, capacity)) == pytest.approx(free_s)


def test_who_leaves_gives_its_share_back():
    timeline, ended = Timeline(), []
    link = SharedLink(timeline, 10.0, [10.0, 10.0], lambda client: ended.append((client, timeline.now_s)))
    timeline.at(0.0, partial(link.join, 0, 100))
    timeline.at(0.0, partial(link.join, 1, 100))
    left = []
    timeline.at(4.0, lambda: left.append(link.leave(0)))
    timeline.run()
    assert (left, ended) == ([80.0], [(1, 12.0)])


@settings(deadline=None)
@given(transfers, st.integers(1, 60), st.floats(0, 60))
def test_saved_and_restored_it_goes_on_to_the_same_bits(found, capacity, saved_s):
    whole = ends(found, capacity)
    timeline, again = Timeline(), dict[int, float]()
    first = SharedLink(timeline, capacity, [limit for _, _, limit in found], lambda client: None)
    for client, (start_s, payload, _) in enumerate(found):
        if start_s <= saved_s:
            timeline.at(start_s, partial(first.join, client, payload))
    timeline.run(saved_s)
    state = json.loads(json.dumps(first.state()))

    resumed = Timeline()
    resumed.at(saved_s, lambda: None)
    resumed.run()
    second = SharedLink(
        resumed, capacity, [limit for _, _, limit in found], lambda client: again.update({client: resumed.now_s})
    )
    second.restore(**state)
    for client, (start_s, payload, _) in enumerate(found):
        if start_s > saved_s:
            resumed.at(start_s, partial(second.join, client, payload))
    resumed.run()
    late = [client for client, end_s in enumerate(whole) if end_s > saved_s]
    assert [again[client] for client in late] == [whole[client] for client in late]


def test_a_link_without_capacity_is_refused():
    with pytest.raises(ValueError, match="server link: send_bytes_per_s must be > 0, got 0"):
        ServerLink(send_bytes_per_s=0)
