from __future__ import annotations

import numpy as np
import pytest

from cosp.stream.arrivals import arrivals, drawn_rows, drawn_shifts, poisson
from cosp.stream.settings import BoardStream, Rounds, Shift

LABELS = np.array([0, 1, 2, 0, 1, 2])


def coming(client: int = 0, seed: int = 0) -> list[float]:
    stream = BoardStream(clients=(client,), per_s=2.0, order="shuffled", drift=())
    return arrivals(stream, LABELS, seed=seed, client=client, until_s=30.0).times_s.tolist()


def test_arrivals_are_a_seed_s_and_a_client_s_own() -> None:
    assert coming() == coming()
    assert coming() != coming(client=1)
    assert coming() != coming(seed=1)


def test_so_many_come_as_were_asked_for() -> None:
    times_s = poisson(2.0, 5_000.0, np.random.default_rng(0))
    assert (np.diff(times_s) > 0).all()
    assert times_s[-1] < 5_000
    assert len(times_s) == pytest.approx(10_000, abs=4 * 100)


def test_every_pass_has_each_sample_once() -> None:
    rng = np.random.default_rng(0)
    for order in ("shuffled", "classes", "as_is"):
        rows = drawn_rows(LABELS, 15, order, rng)
        assert len(rows) == 15
        assert sorted(rows[:6]) == sorted(rows[6:12]) == list(range(6))


def test_by_classes_one_follows_another() -> None:
    rows = drawn_rows(LABELS, 6, "classes", np.random.default_rng(0))
    assert len(set(LABELS[rows].tolist())) == 3
    assert np.count_nonzero(np.diff(LABELS[rows])) == 2


def test_other_data_in_their_own_order_end_the_stream() -> None:
    stream = BoardStream(clients=(0,), per_s=2.0, order="as_is", drift=(), data="mine.npz")
    found = arrivals(stream, LABELS, seed=0, client=0, until_s=100.0)
    assert found.rows.tolist() == [0, 1, 2, 3, 4, 5]


def test_a_board_goes_through_all_severities_of_one_corruption_after_another() -> None:
    rounds = Rounds(every_s=10.0, clean_s=5.0, severities=(1, 5), corruptions=("contrast", "patch"))
    shifts = drawn_shifts(rounds, 60.0, np.random.default_rng(0))
    assert [shift.at_s for shift in shifts] == [5, 15, 25, 35, 45, 55]
    assert [shift.severity for shift in shifts] == [1, 5] * 3
    names = [shift.corruption for shift in shifts]
    assert names[0] == names[1] != names[2] == names[3]
    assert names[4] == names[0]


def test_boards_of_one_site_go_through_one_order() -> None:
    def orders(*, together: bool) -> set[tuple[Shift, ...]]:
        rounds = Rounds(every_s=10.0, severities=(3,), together=together)
        stream = BoardStream(clients=(0,), per_s=1.0, order="shuffled", drift=rounds)
        return {arrivals(stream, LABELS, seed=0, client=client, until_s=80.0).shifts for client in range(4)}

    assert len(orders(together=True)) == 1
    assert len(orders(together=False)) == 4


def test_a_shift_is_on_until_the_next() -> None:
    drift = (Shift(at_s=3, corruption="patch"), Shift(at_s=7, corruption="none"))
    found = arrivals(
        BoardStream(clients=(0,), per_s=1.0, order="shuffled", drift=drift), LABELS, seed=0, client=0, until_s=10.0
    )
    assert [found.shift_at(at_s) for at_s in (2.9, 3.0, 6.9, 7.0)] == [None, drift[0], drift[0], None]
