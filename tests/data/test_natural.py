from __future__ import annotations

import numpy as np
import pytest

from cosp.data.natural import holdings
from cosp.errors import DataError

WHO = np.array(["bob", "ann", "eve", "ann", "dan", "bob", "eve"])


def test_as_many_clients_as_boards_are_dealt_in_sorted_order():
    held = holdings(WHO, weights=[1, 1, 1, 1], min_samples=1)
    assert [(holding.clients, holding.rows.tolist()) for holding in held] == [
        (("ann",), [1, 3]),
        (("bob",), [0, 5]),
        (("dan",), [4]),
        (("eve",), [2, 6]),
    ]


def test_more_clients_than_boards_are_dealt_by_weight_and_never_split():
    held = holdings(np.array([10, 9, 2, 10, 30]), weights=[3, 1], min_samples=1)
    assert [(holding.clients, holding.rows.tolist()) for holding in held] == [
        (("2", "9", "10"), [0, 1, 2, 3]),  # integers by value
        (("30",), [4]),
    ]


@pytest.mark.parametrize("weights", [[1, 1], [2, 1, 1], [5, 1, 3], [1] * 20])
def test_every_row_is_held_once(weights: list[int]):
    clients = np.random.default_rng(0).integers(0, 40, 1000)
    held = holdings(clients, weights=weights, min_samples=1)
    assert sorted(np.concatenate([holding.rows for holding in held]).tolist()) == list(range(1000))
    for holding in held:
        assert {str(name) for name in clients[holding.rows]} == set(holding.clients)


@pytest.mark.parametrize(
    ("weights", "min_samples", "rule"),
    [
        ([1] * 5, 1, "are of 4 clients, the fleet has 5 boards.*take a smaller fleet"),
        ([1, 9, 9], 1, "of 4 clients none is left for board 0 by its shares; set data.partition.pseudo_clients=false"),
        (
            [1, 1],
            4,
            "board 1 would hold 3 samples, those of dan and 1 more, fewer than min_samples = 4; lower",
        ),
    ],
)
def test_what_cannot_be_dealt_is_one_line(weights: list[int], min_samples: int, rule: str):
    with pytest.raises(DataError, match=rule):
        holdings(WHO, weights=weights, min_samples=min_samples)
