from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from cosp.watch.thinned import Thinned


@given(st.integers(1, 500), st.integers(2, 20))
def test_few_points_of_many_from_the_first_to_the_last(many: int, most: int) -> None:
    series: Thinned[int] = Thinned(most)
    for i in range(many):
        series.add(i)
    points = series.points()
    assert points[0] == 0
    assert points[-1] == many - 1
    assert len(points) <= 2 * most
    steps = {b - a for a, b in pairwise(points[:-1])}
    assert len(steps) <= 1


def test_a_short_series_is_kept_whole() -> None:
    series: Thinned[int] = Thinned(10)
    for i in range(19):
        series.add(i)
    assert series.points() == list(range(19))


def test_no_points_of_nothing() -> None:
    assert Thinned[int]().points() == []
