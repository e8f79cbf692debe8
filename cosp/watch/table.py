"""A run on real boards as a table in a terminal: each board by name, what it does, for how long, when it was heard of.

"heard" is how long ago its last task came back, "version" which version that was of, or the one that it works on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from cosp.console import bytes_text, seconds
from cosp.watch.follow import MOST_BOARDS, Follow

Row = dict[str, Any]

DOES = {"t": "trains", "s": "scores", "m": "sums", "w": "waits", "o": "gone", "x": "sits out"}
"""What the letters of a run's state mean, see ``cosp.watch.follow.boards``."""
COLUMNS = ("board", "does", "for", "heard", "version", "tasks", "refused", "memory", "power", "heat")
TEXTS = 2
"""Columns that are no figures."""
OPTIONAL = ("refused", "memory", "power", "heat")
"""Columns that are there once there is something to say."""


class BoardTable:
    """The table of the run in ``folder``; ``on_nodes`` takes what SuperLink says of the boards that it admitted."""

    def __init__(self, folder: Path) -> None:
        self._follow = Follow(folder)
        self._nodes: Sequence[Row] = ()

    def on_nodes(self, nodes: Sequence[Row]) -> None:
        self._nodes = nodes

    def __call__(self) -> Table:
        return board_table(self._follow.state(), self._nodes)


def board_table(state: Row, nodes: Sequence[Row]) -> Table:
    """Return the table of a run's ``state`` (see ``Follow.state``) and of the ``nodes`` that a server has admitted."""
    rows = board_rows(state, nodes) if len(nodes) <= MOST_BOARDS and state["boards"] is not None else []
    shown = [i for i, name in enumerate(COLUMNS) if name not in OPTIONAL or any(row[i] for row in rows)]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), collapse_padding=True, pad_edge=False, show_edge=False)
    if not rows:
        table.caption, table.caption_justify = counts(state), "left"
    for i in shown:
        table.add_column(COLUMNS[i], justify="left" if i < TEXTS else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(row[i] for i in shown))
    return table


def board_rows(state: Row, nodes: Sequence[Row]) -> list[tuple[str, ...]]:
    """Return a row of texts a board: those of the run in client order, then the others that are admitted."""
    client_of: Mapping[str, int] = state["nodes"] or {}
    name_of = {client_of[node["node-id"]]: node["name"] for node in nodes if node["node-id"] in client_of}
    letters = dict(zip(state["numbers"] or range(len(state["letters"])), state["letters"], strict=True))
    now_s = state["virtual_s"]
    inside = [
        _of_client(board, letters[board["client"]], name_of.get(board["client"]) or board["board"], now_s)
        for board in state["boards"]
    ]
    known = {board["client"] for board in state["boards"]}
    outside = [_of_node(node, state) for node in nodes if client_of.get(node["node-id"]) not in known]
    return inside + outside


def _of_client(board: Row, letter: str, name: str, now_s: float) -> tuple[str, ...]:
    seen_s, since_s = board["seen_s"], board["since_s"] if board["task"] else board["seen_s"]
    return (
        name,
        DOES.get(letter, ""),
        "" if since_s is None or letter not in "tsmw" else seconds(max(0.0, now_s - since_s)),
        "" if seen_s is None else seconds(max(0.0, now_s - seen_s)),
        "" if board["version"] is None else str(board["version"]),
        str(board["tasks"]),
        str(board["refused"] or ""),
        bytes_text(board["measured_bytes"]) if board["measured_bytes"] else "",
        "" if board["watts"] is None else f"{board['watts']:.1f} W",
        "" if board["temperature_c"] is None else f"{board['temperature_c']:.0f} °C",
    )


def _of_node(node: Row, state: Row) -> tuple[str, ...]:
    """Return the row of a board that is admitted and not in the run, or not yet."""
    number, rest = node["node-id"], ("",) * (len(COLUMNS) - 3)
    name = node["name"] or f"node {number}"
    silent_s = (state["silent"] or {}).get(number)
    if node["status"] != "online":
        return name, "waited for" if node["online-at"] is None else "gone", "", *rest
    if silent_s is not None:
        return name, "is asked", seconds(silent_s), *rest
    if number in (state["nodes"] or {}):
        return name, "ready", "", *rest
    return name, "left out" if state["run"] else "online", "", *rest


def counts(state: Row) -> str:
    """Return how many boards do what, where there are too many for a row each."""
    found = Counter(DOES.get(letter, "") for letter in state["letters"])
    return ", ".join(f"{count} {what}" for what, count in found.most_common() if what) or "no board yet"
