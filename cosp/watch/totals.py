"""Rows -> running totals: what the page shows of a run, folded row by row, so that a long run stays small."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cosp.watch.thinned import Thinned

Row = dict[str, Any]

RECENT = 200
"""Merged updates that the tile of staleness looks back on."""


@dataclass(kw_only=True)
class BoardTotals:
    """One client by now. ``peak_bytes``: of its tasks, as priced or, on a real board, as measured; ``measured_bytes``
    in the last case alone. Watts and heat are a real board's, of its last task.
    """

    client: int
    board: str
    memory_bytes: int
    tasks: int = 0
    refused: int = 0
    staleness: int | None = None
    version: int | None = None
    peak_bytes: float = 0.0
    measured_bytes: float = 0.0
    watts: float | None = None
    temperature_c: float | None = None
    energy_j: float = 0.0
    accuracy: float | None = None
    seen_s: float | None = None


@dataclass(kw_only=True)
class Round:
    """A closed round in figures."""

    version: int
    virtual_s: float
    energy_j: float
    utilisation: float
    accuracy: list[float] | None
    chosen: int | None


@dataclass
class Totals:
    """Everything of a run's rows so far. KeyError, TypeError or ValueError of a row that is none of this cosp's."""

    header: Row = field(default_factory=dict)
    boards: dict[int, BoardTotals] = field(default_factory=dict)
    rounds: Thinned[Round] = field(default_factory=Thinned)
    evaluated: Thinned[Round] = field(default_factory=Thinned)
    last: Row = field(default_factory=dict)
    merged: Counter[int] = field(default_factory=Counter)
    """Merged updates by staleness."""
    refused: Counter[int] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    recent: list[int] = field(default_factory=list)
    resumed: int = 0
    ended_early: str | None = None

    def add(self, row: Row) -> None:
        fold = _FOLDS.get(row["kind"])
        if fold:
            fold(self, row)


def _run(totals: Totals, row: Row) -> None:
    totals.header = row


def _client(totals: Totals, row: Row) -> None:
    client = int(row["client"])
    totals.boards[client] = BoardTotals(client=client, board=str(row["board"]), memory_bytes=int(row["memory_bytes"]))


def _budget(totals: Totals, row: Row) -> None:
    totals.boards[row["client"]].memory_bytes = int(row["memory_bytes"])


MEASURED = ("wall_peak_rss_bytes", "wall_peak_cuda_bytes")


def _arrival(totals: Totals, row: Row) -> None:
    board = totals.boards[row["client"]]
    measured = max((row.get(key) or 0 for key in MEASURED), default=0)
    board.tasks += 1
    board.peak_bytes = max(board.peak_bytes, measured or row["peak_memory_bytes"])
    if measured:
        board.measured_bytes = max(board.measured_bytes, measured)
        board.watts = row["energy_j"] / row["compute_s"] if row["energy_j"] and row["compute_s"] else None
        board.temperature_c = row.get("wall_temperature_c")
    board.energy_j += row["energy_j"]
    board.version, board.seen_s = row["base_version"], row["arrived_s"]
    if not row["accepted"]:
        board.refused += 1
        totals.reasons[row["reason"] or "unknown"] += 1
    elif row["local_accuracy_trained"] is not None:
        board.accuracy = row["local_accuracy_trained"]
    if row["task"] == "train":
        board.staleness = row["staleness"]
        (totals.merged if row["accepted"] else totals.refused)[row["staleness"]] += 1
        if row["accepted"]:
            totals.recent = [*totals.recent[1 - RECENT :], row["staleness"]]


def _round(totals: Totals, row: Row) -> None:
    scores = row["evaluation"]
    found = Round(
        version=row["version"],
        virtual_s=row["virtual_s"],
        energy_j=row["energy_j"],
        utilisation=row["utilisation"],
        accuracy=[*scores["accuracy"], scores["mean_accuracy"]] if scores else None,
        chosen=scores["chosen_exit"] if scores else None,
    )
    totals.rounds.add(found)
    if scores:
        totals.evaluated.add(found)
    totals.last = row


def _resume(totals: Totals, row: Row) -> None:
    totals.resumed += 1


def _end(totals: Totals, row: Row) -> None:
    totals.ended_early = str(row["reason"])


_FOLDS: dict[str, Callable[[Totals, Row], None]] = {
    "run": _run,
    "client": _client,
    "budget": _budget,
    "arrival": _arrival,
    "round": _round,
    "resume": _resume,
    "end": _end,
}
