from __future__ import annotations

import pytest

from cosp.errors import CospError
from cosp.server.conduct import Conduct
from cosp.server.ledger import Ledger


def conduct(ledger: Ledger | None = None, *, ban_after: int | None = 3, min_clients: int | None = None) -> Conduct:
    return Conduct(ledger or Ledger(), boards=4, ban_after=ban_after, min_clients=min_clients)


def test_the_third_lie_in_a_row_is_a_ban_and_no_other():
    judged = conduct()
    assert judged.lied(2, 102, "malformed") is None
    judged.told_the_truth(2)
    assert [judged.lied(2, 102, "malformed") for _ in range(2)] == [None, None]
    ban = {"kind": "ban", "client": 2, "node": 102, "reason": "samples", "lies": 3}
    assert judged.lied(2, 102, "samples") == ban
    assert judged.lied(2, 102, "samples") is None
    assert (judged.banned, judged.banned_nodes) == ([2], {102})


def test_lies_of_others_are_not_added_up():
    judged = conduct()
    assert [judged.lied(client, 100 + client, "twice") for client in range(4)] == [None] * 4


def test_nobody_is_banned_where_that_is_not_wanted():
    judged = conduct(ban_after=None)
    assert [judged.lied(0, 100, "twice") for _ in range(9)] == [None] * 9


@pytest.mark.parametrize(("min_clients", "enough"), [(None, 2), (1, 3), (4, 0)])
def test_a_run_needs_half_of_its_boards_or_what_it_says(min_clients: int | None, enough: int):
    judged = conduct(ban_after=1, min_clients=min_clients)
    for client in range(enough):
        judged.lied(client, 100 + client, "twice")
        judged.check_left(4)
    judged.lied(3, 103, "twice")
    with pytest.raises(CospError, match=rf"^{enough + 1} of 4 boards are banned .* \(server.min_clients\)"):
        judged.check_left(4)


def test_a_checkpoint_keeps_bans():
    ledger = Ledger()
    conduct(ledger, ban_after=1).lied(1, 101, "twice")
    assert conduct(Ledger(**ledger.as_json())).banned_nodes == {101}
