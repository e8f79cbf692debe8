"""Nodes and the clients that they are, in arrays."""

from __future__ import annotations

import pytest

from cosp.server.nodes import Nodes

BIG = 2**64 - 5
"""Flower draws numbers from all that 64 bits hold; doubles would take these for one."""


def test_a_node_has_any_number_of_64_bits() -> None:
    nodes = Nodes.of({BIG: 1, BIG + 1: 0, 3: 2})
    assert list(nodes.items()) == [(BIG + 1, 0), (BIG, 1), (3, 2)]
    assert [nodes.node_of(client) for client in range(3)] == [BIG + 1, BIG, 3]
    assert BIG + 2 not in nodes
    with pytest.raises(KeyError):
        nodes.node_of(3)


def test_a_node_that_joins_is_found_by_both() -> None:
    nodes = Nodes.of({BIG: 2, 7: 0})
    nodes.join(BIG + 2, 1)
    assert (nodes.node_of(1), nodes[BIG + 2], len(nodes)) == (BIG + 2, 1, 3)
    assert list(nodes.values()) == [0, 1, 2]
