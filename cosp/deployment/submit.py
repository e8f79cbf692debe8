"""Run an experiment on boards: start it on the SuperLink, follow its rows, and start it again where it broke off."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from cosp.deployment.control import Control
from cosp.errors import CospError
from cosp.run.directory import MEND, NOW

Row = dict[str, Any]

FOLLOW_S = 1.0
STATUS_S = 10.0
"""How often Flower is asked who is there and whether the run still runs; rows show at once."""
SILENT_S = 45.0
"""A board that is connected and says nothing for so long is named."""
OVER = "finished"


def run_on_boards(
    control: Control,
    run_config: dict[str, str | bool],
    folder: Path,
    *,
    restarts: int,
    on_row: Callable[[Row], None],
    say: Callable[[str], None],
    on_nodes: Callable[[list[Row]], None] = lambda nodes: None,
    run: str | None = None,
    resumes: bool = True,
) -> Row:
    """Run to the end and return the metrics. ``run``: the number of one that was begun, to be followed again.

    ``on_nodes`` gets the boards that are admitted, now and then.

    A run whose ServerApp dies is started again from its last checkpoint, at most ``restarts`` times in a row without a
    new version in between; CospError then, when it is stopped by somebody, or when its directory cannot be written.
    What does not ``resumes`` ends with its first ServerApp: a stream begins anew each time.
    """
    rows = _Rows(folder / "rows.jsonl", on_row)
    left = restarts
    while True:
        version = rows.version
        if run is None:
            run = control.start(run_config)
            say(f"run {run} started")
        status, details = _follow(control, run, rows, _Missing(folder, say), on_nodes)
        if (folder / "metrics.json").is_file() and status == "finished:completed":
            return dict(json.loads((folder / "metrics.json").read_text(encoding="utf-8")))
        left = restarts if rows.version > version else left - 1
        if status == "finished:stopped" or not resumes or left < 0 or MEND in details:
            again = f"go on with: cosp server run --resume {folder}" if resumes else "begin it anew with another --out"
            raise CospError(f"run {run} ended: {status} {details}; see the server's log; {again}")
        say(f"run {run} ended ({status} {details}); going on from its last checkpoint")
        run_config, run = {**run_config, "resume": True}, None


class _Missing:
    """Says which boards a run that has not begun may be waiting for, once for each answer."""

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self._now, self._say = folder / NOW, say
        self._told = ""

    def tell(self, nodes: Sequence[Row]) -> None:
        names = {node["node-id"]: node["name"] or node["node-id"] for node in nodes}
        absent = [names[node["node-id"]] for node in nodes if node["status"] != "online"]
        silent = [names.get(node, node) for node in self._silent()]
        text = f"waiting for boards; not online: {', '.join(absent)}" if absent else "all boards are online"
        if silent:
            text += (
                f"; connected but silent: {', '.join(silent)}: is the trainer there up, and has the board free CPU to "
                "start Flower's ClientApp? Its own log says so"
            )
        if text != self._told and (absent or silent or self._told):
            self._told = text
            self._say(text)

    def _silent(self) -> list[str]:
        try:
            found = json.loads(self._now.read_text(encoding="utf-8")).get("silent", {})
        except (OSError, ValueError):  # the ServerApp is not up yet, or is gone
            return []
        return [node for node, silent_s in found.items() if silent_s >= SILENT_S]


def _follow(
    control: Control, run: str, rows: _Rows, missing: _Missing, on_nodes: Callable[[list[Row]], None]
) -> tuple[str, str]:
    """Pass rows on until the run is over, and return how it ended."""
    asked_s = -math.inf
    while True:
        time.sleep(FOLLOW_S)
        rows.read()
        if time.monotonic() - asked_s > STATUS_S or rows.over:
            asked_s = time.monotonic()
            try:
                nodes = control.nodes()
                on_nodes(nodes)
                if not rows.begun:
                    missing.tell(nodes)
                status, details = control.status(run)
            except CospError:
                continue  # SuperLink is restarting; the run lives on
            if status.startswith(OVER):
                rows.read()
                return status, details


class _Rows:
    """Reads a file of rows while it grows; it may be cut when a run goes on from a checkpoint."""

    def __init__(self, path: Path, on_row: Callable[[Row], None]) -> None:
        self.version = 0
        self._path = path
        self._on_row = on_row
        self._shown: list[int] = []
        """A hash of every line that was passed on."""
        self._last = 0
        """Where the last of them begins."""

    @property
    def begun(self) -> bool:
        return bool(self._shown)

    @property
    def over(self) -> bool:
        return (self._path.parent / "metrics.json").is_file()

    def read(self) -> None:
        for row in self._new():
            if row["kind"] == "round":
                self.version = max(self.version, row["version"])
            self._on_row(row)

    def _new(self) -> Iterator[Row]:
        if not self._path.is_file():
            return
        with self._path.open("rb") as file:
            self._find_place(file)
            at = file.tell()
            for line in file:
                if not line.endswith(b"\n"):
                    break  # it is being written
                self._shown.append(hash(line))
                self._last, at = at, at + len(line)
                yield json.loads(line)

    def _find_place(self, file: BinaryIO) -> None:
        """Go behind the last line that was passed on, or to where the file differs since it was cut."""
        file.seek(self._last)
        if self._shown and hash(file.readline()) == self._shown[-1]:
            return
        file.seek(0)
        self._last = at = 0
        for i, known in enumerate(self._shown):
            line = file.readline()
            if hash(line) != known:
                del self._shown[i:]
                break
            self._last, at = at, at + len(line)
        file.seek(at)
