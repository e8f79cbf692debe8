"""Blocks that nobody trains: known before a run begins, from what its boards can hold."""

from __future__ import annotations

from collections.abc import Iterable

from cosp.fleet.census import one_of_each
from cosp.fleet.introduction import Introduction
from cosp.methods.method import Method, everybody


def untrained_blocks(method: Method, clients: Iterable[Introduction]) -> tuple[int, ...]:
    """Return the blocks of the method's result, from 1, that no client holds which takes part."""
    if method.takes_part is everybody:
        clients = one_of_each(clients)
    deepest = max((method.submodels.depth(client) for client in clients if method.takes_part(client)), default=0)
    return tuple(range(deepest + 1, method.model.evaluated.depth + 1))
