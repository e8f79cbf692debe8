"""A run directory -> what the page draws, as JSON values, read on from where it was read last."""

from __future__ import annotations

import json
import os
import socket
import time
from collections import Counter
from pathlib import Path
from typing import Any

from cosp.run.directory import NOW
from cosp.watch.tail import News, Tail
from cosp.watch.totals import BoardTotals, Totals

Row = dict[str, Any]

MOST_BOARDS = 48
"""Boards that get a row of their own; of more, each kind of board gets one."""
QUIET_S = 120.0
"""Without a sign of life for so long, the process of a run on another machine is taken to be gone."""


class Follow:
    """Reads ``folder`` as it grows; :meth:`state` is what there is by now."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tail = Tail(folder / "rows.jsonl")
        self._totals = Totals()
        self._strange = 0
        self._nodes: dict[str, int] | None = None
        """Of real boards, the client that each of Flower's nodes is; known yet when the run has ended."""

    def state(self) -> Row:
        """Read on and return the page's values."""
        news = self._tail.read()
        self._add(news)
        now = _object(self._folder / NOW)
        status = self._status(now)
        if status != "running":
            now = None  # of a process that is gone
        self._nodes = (now or {}).get("nodes", self._nodes)
        totals = self._totals
        run = {key: totals.header.get(key) for key in ("name", "title", "data", "method", "seed", "clients", "exits")}
        return {
            "folder": str(self._folder),
            "run": run if totals.header else None,
            "status": status,
            "left_bytes": news.left_bytes,
            "unreadable": self._tail.unreadable + self._strange,
            "resumed": totals.resumed,
            "ended_early": totals.ended_early,
            "nodes": self._nodes,
            "silent": (now or {}).get("silent"),  # of real boards alone
            **progress(totals, now, _object(self._folder / "metrics.json")),
            **series(totals),
            **staleness(totals),
            **boards(totals, now),
        }

    def _add(self, news: News) -> None:
        if news.anew:
            self._totals, self._strange = Totals(), 0
        for row in news.rows:
            try:
                self._totals.add(row)
            except (KeyError, TypeError, ValueError):  # of another cosp, or no run's
                self._strange += 1

    def _status(self, now: Row | None) -> str:
        """Return ``running``, ``ended``, ``stopped`` (it can go on), or ``waiting`` before anything is there."""
        if now is not None and _lives(now, self._folder / NOW):
            return "running"
        if now is None and (self._folder / "metrics.json").exists():
            return "ended"
        begun = self._totals.header or now is not None
        return "stopped" if begun else "waiting"


def _object(path: Path) -> Row | None:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError):
        return None


def _lives(now: Row, path: Path) -> bool:
    """Tell whether the process that wrote ``now`` is there; on another machine, whether it was of late."""
    if now.get("host") != socket.gethostname():
        try:
            return time.time() - path.stat().st_mtime < QUIET_S
        except OSError:
            return False
    try:
        os.kill(int(now["pid"]), 0)
    except PermissionError:  # it is there, and another user's
        return True
    except (KeyError, OSError, OverflowError, TypeError, ValueError):
        return False
    return True


def progress(totals: Totals, now: Row | None, metrics: Row | None) -> Row:
    """Where the run stands, of how much, how long it has taken, and what is left at the pace since it began."""
    last, header = totals.last, totals.header
    ends = {key: (now or header).get(key) for key in ("versions", "until_s")}
    at = {key: (now or {}).get(key, last.get(key, 0)) for key in ("version", "virtual_s")}
    done = share_done(at, ends)
    wall_s = now["wall_s"] if now else (metrics or {}).get("wall_time_s")
    return {
        **ends,
        **at,
        "virtual": now["virtual"] if now else None,
        "done": done,
        "wall_s": wall_s,
        "left_s": left_s(done, share_done(now["began"], ends), now["wall_s"]) if now else None,
        "energy_j": last.get("energy_j"),
        "utilisation": last.get("utilisation"),
        "bytes": last["bytes_down"] + last["bytes_up"] if last else None,
    }


def share_done(at: Row, ends: Row) -> float:
    """Return the share of a run that ends at so many versions or so many seconds, whichever comes first."""
    parts = ((at["version"], ends["versions"]), (at["virtual_s"], ends["until_s"]))
    return min(1.0, max((now / end for now, end in parts if end), default=0.0))


def left_s(done: float, began: float, wall_s: float) -> float | None:
    """Return the seconds left at the pace since ``began``, or None before there is one."""
    return wall_s * (1 - done) / (done - began) if done > began and wall_s > 0 else None


def series(totals: Totals) -> Row:
    """The lines: accuracy of each exit (the last entry is the exits' mean), joules and utilisation."""
    return {
        "evaluated": [[r.version, r.virtual_s, r.accuracy, r.chosen] for r in totals.evaluated.points()],
        "rounds": [[r.version, r.virtual_s, r.energy_j, r.utilisation] for r in totals.rounds.points()],
    }


def staleness(totals: Totals) -> Row:
    """Updates by staleness as ``[merged, refused]``, and the mean of the latest merged ones."""
    longest = max((*totals.merged, *totals.refused), default=-1)
    recent = totals.recent
    return {
        "staleness": [[totals.merged[age], totals.refused[age]] for age in range(min(longest, 999) + 1)],
        "recent_staleness": sum(recent) / len(recent) if recent else None,
        "merged": totals.merged.total(),
        "refused": dict(totals.reasons.most_common()),
    }


def boards(totals: Totals, now: Row | None) -> Row:
    """Each board's state as one letter, and a row a board, or a row a kind where there are many.

    Letters: ``t`` trains, ``s`` scores its units, ``m`` sums its features, ``w`` waits, ``o`` is off, ``x`` sits out,
    ``-`` no run at work.
    """
    tasks = {client: (kind, version, since_s) for client, kind, version, since_s in (now or {}).get("tasks", ())}
    off, out = set((now or {}).get("off", ())), set((now or {}).get("sits_out", ()))

    def letter(client: int) -> str:
        if now is None:
            return "-"
        if client in off:
            return "o"
        return tasks[client][0][0] if client in tasks else "x" if client in out else "w"

    found = sorted(totals.boards.values(), key=lambda board: board.client)
    letters = "".join(letter(board.client) for board in found)
    single = len(found) <= MOST_BOARDS
    return {
        "letters": letters,
        "numbers": None if all(board.client == i for i, board in enumerate(found)) else [b.client for b in found],
        "names": _runs(found),
        "boards": [board_row(board, tasks.get(board.client)) for board in found] if single else None,
        "kinds": None if single else kind_rows(found, letters),
    }


def _runs(found: list[BoardTotals]) -> list[list[Any]]:
    """Names of the boards, ``[name, how many follow each other]``: fleets come in kinds."""
    runs: list[list[Any]] = []
    for board in found:
        if runs and runs[-1][0] == board.board:
            runs[-1][1] += 1
        else:
            runs.append([board.board, 1])
    return runs


def board_row(board: BoardTotals, task: tuple[str, int, float] | None) -> Row:
    kind, version, since_s = task or (None, board.version, None)
    return {**vars(board), "task": kind, "version": version, "since_s": since_s}


def kind_rows(found: list[BoardTotals], letters: str) -> list[Row]:
    """One row a kind of board: how many do what, and their totals."""
    kinds: dict[str, Row] = {}
    for board, letter in zip(found, letters, strict=True):
        row = kinds.setdefault(
            board.board,
            {"board": board.board, "count": 0, "states": Counter(), "tasks": 0, "refused": 0, "peak_bytes": 0.0,
             "memory_bytes": board.memory_bytes, "energy_j": 0.0},
        )  # fmt: skip
        row["count"] += 1
        row["states"][letter] += 1
        for key in ("tasks", "refused", "energy_j"):
            row[key] += getattr(board, key)
        row["peak_bytes"] = max(row["peak_bytes"], board.peak_bytes)
        row["memory_bytes"] = min(row["memory_bytes"], board.memory_bytes)
    return list(kinds.values())
