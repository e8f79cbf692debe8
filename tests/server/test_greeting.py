"""Who is waited for before a run begins, as the one who greets tells it."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from flwr.app import Message
from flwr.supercore.task_identity import TaskIdentity

from cosp.errors import CospError
from cosp.run.now import waiting_row
from cosp.server.greeting import Greeter


class Deaf:
    """A grid whose nodes say nothing, on a clock of its own."""

    def __init__(self, nodes: Iterable[int]) -> None:
        self._nodes, self._now_s = list(nodes), 0.0

    def clock(self) -> float:
        return self._now_s

    def idle(self, at_most_s: float) -> None:
        self._now_s += 10.0

    def get_node_ids(self) -> list[int]:
        return self._nodes

    def push_messages(self, messages: list[Message]) -> list[str]:
        return [str(message.metadata.dst_node_id) for message in messages]

    def pull_messages(self, ids: Iterable[str]) -> list[Message]:
        return []


def test_nodes_that_say_nothing_are_told_with_how_long(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)
    told: list[dict[str, float]] = []
    grid = Deaf([7, 9])
    greeter = Greeter(grid, 2, on_wait=lambda greeter: told.append(waiting_row(greeter)["silent"]))  # type: ignore[arg-type]
    with pytest.raises(CospError, match="connected but silent: node 7, 9: is its trainer up"):
        greeter.greet(timeout_s=25.0)
    assert told == [{"7": s, "9": s} for s in (0.0, 10.0, 20.0, 30.0)]
