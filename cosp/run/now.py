"""What a run is doing right now: ``now.json`` beside its rows, which is there only while its process works.

Rows say what came back; who is at work, and which boards are off, stands nowhere else until it is over. Nothing of a
run depends on this file: it may hold wall time, which rows may not, and a run that cannot write it goes on.
"""

from __future__ import annotations

import json
import math
import os
import socket
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from cosp.files import write_whole
from cosp.run.directory import NOW
from cosp.run.virtual import VirtualTime
from cosp.server.greeting import Greeter
from cosp.server.loop import Loop
from cosp.server.nodes import set_of

EVERY_S = 0.5
REST = 50
"""Writing takes at most one part in so many of a run's time, however large the fleet."""


class Now(AbstractContextManager["Now"]):
    """Writes ``now.json`` as the loop goes on, seldom enough to cost nothing; it is gone when the run has ended."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NOW
        self._began: dict[str, float] = {}
        self._began_s = self._due_s = time.monotonic()

    def look(self, loop: Loop) -> None:
        """Write what ``loop`` is doing, if that is due."""
        if time.monotonic() >= self._due_s:
            self._began = self._began or {"version": loop.coordinator.version, "virtual_s": loop.now_s()}
            self._write(lambda: {**now_row(loop), "began": self._began})

    def wait(self, greeter: Greeter) -> None:
        """Write who of the boards is waited for, if that is due; when they are all there in any case: the first step of
        the run may be long in coming.
        """
        if greeter.complete or time.monotonic() >= self._due_s:
            self._write(lambda: waiting_row(greeter))

    def _write(self, row: Callable[[], dict[str, Any]]) -> None:
        started_s = time.monotonic()
        text = json.dumps({**row(), "wall_s": started_s - self._began_s})
        with suppress(OSError):  # a full disk stops the run at its next row, and says so there
            write_whole(self._path, text)
        ended_s = time.monotonic()
        self._due_s = ended_s + max(EVERY_S, REST * (ended_s - started_s))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


def now_row(loop: Loop) -> dict[str, Any]:
    """Return who works on what (``[client, kind, version, sent_s]``), whose board is off, and where the run stands.

    ``virtual``: ``virtual_s`` is simulated time. ``pid`` on ``host`` is the process whose end is the run's. ``nodes``:
    of real boards, Flower's number of each, as text, and the client that it is.
    """
    on = set_of(loop.grid.get_node_ids())
    nodes = list(zip(loop.nodes.nodes.tolist(), loop.nodes.clients.tolist(), strict=True))
    rules, virtual = loop.rules, isinstance(loop.grid, VirtualTime)
    return {
        **_process(),
        "virtual": virtual,
        "nodes": {} if virtual else {str(node): client for node, client in nodes},
        "version": loop.coordinator.version,
        "virtual_s": loop.now_s(),
        "versions": rules.versions,
        "until_s": rules.until_s if math.isfinite(rules.until_s) else None,
        "tasks": [
            [dispatch.task.client, dispatch.task.kind, dispatch.task.version, dispatch.sent_s]
            for dispatch in loop.in_flight.values()
        ],
        "off": [client for node, client in nodes if node not in on],
        "sits_out": sorted(loop.coordinator.sitting_out),
    }


def waiting_row(greeter: Greeter) -> dict[str, Any]:
    """Return what a run is doing that has not begun: ``nodes`` who said which client they are, and ``silent``: for how
    long each has said nothing that was asked.
    """
    return {
        **_process(),
        "virtual": False,
        "nodes": {str(node): told.client for node, told in sorted(greeter.found.items())},
        "silent": {str(node): silent_s for node, silent_s in greeter.silent_s().items()},
        "version": 0,
        "virtual_s": 0.0,
        "versions": None,
        "until_s": None,
        "began": {"version": 0, "virtual_s": 0.0},
        "tasks": [],
        "off": [],
        "sits_out": [],
    }


def _process() -> dict[str, Any]:
    return {"host": socket.gethostname(), "pid": os.getpid()}
