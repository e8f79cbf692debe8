from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosp.server.nodes import Nodes, NodesOn
from cosp.server.roster import Roster


def test_nodes_are_found_by_client_and_clients_by_node():
    nodes = Nodes.of({70: 3, 50: 1, 60: 9})
    assert list(nodes.items()) == [(50, 1), (70, 3), (60, 9)]
    assert [nodes.node_of(client) for client in (1, 3, 9)] == [50, 70, 60]
    assert (nodes.has(3), nodes.has(2), nodes.has(10)) == (True, False, False)
    assert list(nodes.only(np.array([True, False, True]))) == [50, 60]
    with pytest.raises(KeyError):
        nodes.node_of(2)
    with pytest.raises(KeyError):
        nodes[55]


def test_nodes_on_are_a_set_that_remembers_who_came():
    on = NodesOn(100, 4)
    assert (set(on), len(on), 103 in on, 104 in on, "x" in on) == ({100, 101, 102, 103}, 4, True, False, False)
    on.set(1, False)
    on.set(1, False)
    assert (sorted(on), len(on), on.came()) == ([100, 102, 103], 3, [])
    on.set(1, True)
    assert (on.came(), on.came(), len(on)) == ([101], [], 4)


@given(st.data())
def test_a_set_that_changes_in_place_is_taken_from_like_a_new_one_each_time(data):
    pairs = {1000 + client: client for client in range(6)}
    on, ours, slow = NodesOn(1000, 6), Roster(pairs), Roster(pairs)
    fresh = data.draw(st.lists(st.integers(0, 5), unique=True).map(sorted))
    ours.begin(np.array(fresh, np.int64))
    for client in fresh:
        slow.wait(client, dispatches=0)
    for _ in range(data.draw(st.integers(1, 12))):
        for client in data.draw(st.lists(st.integers(0, 5))):
            on.set(client, data.draw(st.booleans()))
        for client in data.draw(st.lists(st.integers(0, 5))):
            for roster in (ours, slow):
                roster.wait(client, dispatches=client % 3)
        most = data.draw(st.integers(0, 6))
        assert ours.take(on, most) == slow.take(frozenset(on), most)
