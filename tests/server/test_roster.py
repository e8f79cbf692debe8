from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cosp.server.roster import Roster

NODES = {1000 + client: client for client in range(8)}
ALL = frozenset(NODES)


def roster_of(**dispatches: int) -> Roster:
    """A roster in which ``c3=5`` waits with 5 training tasks behind it."""
    roster = Roster(NODES)
    for name, count in dispatches.items():
        roster.wait(int(name[1:]), dispatches=count)
    return roster


def clients(taken: list[tuple[int, int]]) -> list[int]:
    assert all(NODES[node] == client for node, client in taken)
    return [client for _, client in taken]


def test_who_trained_least_goes_first_ties_by_number_and_all_are_named_in_order():
    roster = roster_of(c5=0, c1=2, c7=0, c3=1)
    assert clients(roster.take(ALL, 3)) == [3, 5, 7]
    assert clients(roster.take(ALL)) == [1]
    assert roster.take(ALL) == []


def test_who_rests_is_left_out_until_woken():
    roster = roster_of(c1=0)
    roster.rest(2)
    assert clients(roster.take(ALL)) == [1]
    assert (roster.wake(), roster.wake()) == ({2}, set())


def test_who_is_away_waits_on():
    roster = roster_of(c1=0, c2=5)
    without_1 = frozenset(ALL - {1001})
    assert clients(roster.take(without_1)) == [2]
    assert roster.take(without_1) == []
    assert clients(roster.take(ALL)) == [1]


def test_a_list_that_changes_in_place_is_read_again():
    roster, connected = roster_of(c1=0), [1002]
    assert roster.take(connected) == []
    connected.append(1001)
    assert clients(roster.take(connected)) == [1]


@given(st.data())
def test_it_takes_whom_a_search_of_all_clients_would_take(data):
    roster, waiting = Roster(NODES), dict[int, int]()
    for _ in range(data.draw(st.integers(1, 12))):
        idle = sorted(set(NODES.values()) - waiting.keys())
        for client in data.draw(st.lists(st.sampled_from(idle), unique=True)) if idle else ():
            waiting[client] = data.draw(st.integers(0, 3))
            roster.wait(client, dispatches=waiting[client])
        here, most = data.draw(st.frozensets(st.sampled_from(sorted(NODES)))), data.draw(st.integers(0, 8))
        candidates = sorted((count, client) for client, count in waiting.items() if 1000 + client in here)
        expected = sorted(client for _, client in candidates[:most])
        assert clients(roster.take(here, most)) == expected
        for client in expected:
            del waiting[client]
