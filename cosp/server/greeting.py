"""Who takes part: every node says which client it is before the first round."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from flwr.serverapp import Grid

from cosp.errors import CospError
from cosp.fleet.introduction import Introduction
from cosp.server.nodes import Guests, Nodes
from cosp.wire import messages as wire

POLL_S = 0.2
INTRODUCTIONS = 3
"""How often a node may fail to introduce itself."""


def greet(grid: Grid, expected: int, *, timeout_s: float = 300.0) -> Guests:
    """Ask every node who it is until ``expected`` clients have answered; return them. A grid that knows them all has
    them introduce themselves by itself (``meet``).

    CospError when they are not there after ``timeout_s`` of the grid's clock, when a node keeps failing, or when two
    nodes claim one client.
    """
    meet: Callable[[], Guests] | None = getattr(grid, "meet", None)
    if meet is not None:
        return meet()
    clock, idle = getattr(grid, "clock", time.monotonic), getattr(grid, "idle", time.sleep)
    started_s, waiting, found = clock(), dict[str, int](), dict[int, Introduction]()
    failures = Counter[int]()
    while len(found) < expected:
        nodes = sorted(grid.get_node_ids())
        asked = found.keys() | set(waiting.values())
        new = [node for node in nodes if node not in asked]
        ids = grid.push_messages([wire.introduction_request(node) for node in new]) if new else []
        waiting |= {message_id: node for message_id, node in zip(ids, new, strict=False) if message_id}
        for reply in grid.pull_messages(list(waiting)):
            node = waiting.pop(reply.metadata.reply_to_message_id)
            if reply.has_error():
                failures[node] += 1
                _give_up(node, failures[node], reply.error.reason or "")
            else:
                found[node] = wire.read_introduction(reply)
        if clock() - started_s > timeout_s:
            raise CospError(
                f"{len(found)} of {expected} clients introduced themselves within {timeout_s:.0f} s; {len(nodes)} "
                f"nodes are connected: connect {expected}, one a board of the fleet"
            )
        if len(found) < expected:
            idle(POLL_S)
    claimed = [introduction.client for introduction in found.values()]
    if sorted(claimed) != sorted(set(claimed)):
        raise CospError(f"two nodes claim one client: {sorted(claimed)}")
    return Guests(
        nodes=Nodes.of({node: introduction.client for node, introduction in found.items()}),
        clients=sorted(found.values(), key=lambda introduction: introduction.client),
    )


def _give_up(node: int, failures: int, reason: str) -> None:
    """Raise CospError when a node has failed often enough to introduce itself; the last line of ``reason`` says why."""
    if failures >= INTRODUCTIONS:
        lines = reason.replace("\\n", "\n").strip().splitlines() or ["no reason given"]
        raise CospError(f"node {node} cannot take part: {lines[-1].strip()}")
