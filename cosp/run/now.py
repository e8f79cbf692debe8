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
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from cosp.files import write_whole
from cosp.run.virtual import VirtualTime
from cosp.server.loop import Loop
from cosp.server.nodes import set_of

NAME = "now.json"
EVERY_S = 0.5
REST = 50
"""Writing takes at most one part in so many of a run's time, however large the fleet."""


class Now(AbstractContextManager["Now"]):
    """Writes ``now.json`` as the loop goes on, seldom enough to cost nothing; it is gone when the run has ended."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._began: dict[str, float] = {}
        self._began_s = self._due_s = time.monotonic()

    def look(self, loop: Loop) -> None:
        """Write what ``loop`` is doing, if that is due."""
        started_s = time.monotonic()
        if started_s < self._due_s:
            return
        self._began = self._began or {"version": loop.coordinator.version, "virtual_s": loop.now_s()}
        row = {**now_row(loop), "began": self._began, "wall_s": started_s - self._began_s}
        with suppress(OSError):  # a full disk stops the run at its next row, and says so there
            write_whole(self._path, json.dumps(row))
        ended_s = time.monotonic()
        self._due_s = ended_s + max(EVERY_S, REST * (ended_s - started_s))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


def now_row(loop: Loop) -> dict[str, Any]:
    """Return who works on what (``[client, kind, version, sent_s]``), whose board is off, and where the run stands.

    ``virtual``: ``virtual_s`` is simulated time. ``pid`` on ``host`` is the process whose end is the run's.
    """
    on = set_of(loop.grid.get_node_ids())
    nodes = zip(loop.nodes.nodes.tolist(), loop.nodes.clients.tolist(), strict=True)
    rules = loop.rules
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "virtual": isinstance(loop.grid, VirtualTime),
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
