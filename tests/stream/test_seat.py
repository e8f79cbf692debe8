from __future__ import annotations

import numpy as np
import torch

from cosp.fleet import load_fleet
from cosp.stream.arrivals import Arrivals
from cosp.stream.seat import Piece, Seat
from cosp.submodel.plan import GroupSizes, full_plan

BOARD = load_fleet({"boards": [{"device": "jetson-nano", "link": "wifi"}]}).boards[0]


def seat(*times_s: float) -> Seat:
    coming = Arrivals(times_s=np.array(times_s), rows=np.arange(len(times_s)), shifts=())
    plan = full_plan(GroupSizes(1, 1, 1, 1), 1)
    return Seat(board=BOARD, plan=plan, exit=0, coming=coming, first=100, weights=torch.zeros(1))


def told(pieces: list[Piece]) -> list[tuple[int, int, int]]:
    return [(piece.first, piece.last, piece.by.version) for piece in pieces]


def test_each_sample_is_due_once_and_answered_by_the_set_of_its_time() -> None:
    one = seat(1, 2, 3, 4, 11)
    one.take(2.5, 1, torch.ones(1))
    assert told(one.due(10)[0]) == [(0, 2, 0), (2, 4, 1)]
    assert told(one.due(20)[0]) == [(4, 5, 1)]
    assert one.due(20)[0] == []


def test_what_comes_while_a_board_is_off_is_missed() -> None:
    one = seat(1, 2, 3, 4)
    one.turned(1.5, False)
    one.turned(2.5, True)
    pieces, missed, since_s = one.due(10)
    assert told(pieces) == [(0, 1, 0), (2, 4, 0)]
    assert (missed, since_s) == (1, 0.0)
    assert one.due(12)[2] == 10


def test_a_set_that_came_while_nothing_did_answers_what_comes_then() -> None:
    one = seat(1, 5)
    one.due(2)
    one.take(3, 4, torch.ones(1))
    assert told(one.due(10)[0]) == [(1, 2, 4)]
