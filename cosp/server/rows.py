"""What a run writes down as it goes: a row for each arrival, and one when a client can afford something else."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from cosp.methods.clients import ClientRecord
from cosp.task.demand import download_bytes, peak_memory_bytes, upload_bytes
from cosp.task.task import Task

Row = dict[str, Any]


def arrival_row(task: Task, board: str, *, version: int, sent_s: float, arrived_s: float) -> Row:
    """Return the row of a task that has come back, as far as the server itself knows it; it counts as refused."""
    size = task.size
    return {
        "kind": "arrival",
        "client": task.client,
        "board": board,
        "task": task.kind,
        "base_version": task.version,
        "version": version,
        "staleness": version - task.version,
        "accepted": False,
        "reason": None,
        "weight": 0.0,
        "samples": 0,
        "loss": None,
        "local_accuracy_received": None,
        "local_accuracy_trained": None,
        "depth": size.depth,
        "parameters": size.parameters,
        "sent_s": sent_s,
        "download_s": 0.0,
        "compute_s": 0.0,
        "upload_s": 0.0,
        "arrived_s": arrived_s,
        "bytes_down": download_bytes(task),
        "bytes_up": upload_bytes(task),
        "energy_j": 0.0,
        "peak_memory_bytes": peak_memory_bytes(task),
    }


def budget_row(record: ClientRecord, *, version: int, now_s: float) -> Row:
    """Return the row of a client that can afford something else than before.

    ``slowdown``: times as long as its board is said to take, by declaration or by steps that it trained. ``sits_out``:
    why it holds nothing.
    """
    client = record.introduction
    return {
        "kind": "budget",
        "client": client.client,
        "board": client.board,
        "version": version,
        "virtual_s": now_s,
        "keep": client.keep,
        "memory_bytes": client.memory_bytes,
        "slowdown": client.speed and client.speed.slowdown,
        "sits_out": record.sits_out,
    }


def reported(row: Row, facts: Mapping[str, Any]) -> Row:
    """Return what a client's reply adds to its row; KeyError, TypeError or ValueError if it does not say it.

    Spans and energy come from the grid's cost model if it has one (``cost``), else from what the client measured.
    """
    found: Row = {"samples": int(facts["samples"])}
    if row["task"] == "train":
        for key in ("loss", "local_accuracy_received", "local_accuracy_trained"):
            found[key] = None if facts[key] is None else float(facts[key])
    if "cost" in facts:
        return found | {key: float(facts["cost"][key]) for key in ("download_s", "compute_s", "upload_s", "energy_j")}
    return found | _measured(row["arrived_s"] - row["sent_s"], facts)


MEASURED = ("wall_step_s", "wall_peak_rss_bytes", "wall_peak_cuda_bytes")
"""What an arrival's row holds where a real machine did the task, as far as that machine can tell."""


def _measured(elapsed_s: float, facts: Mapping[str, Any]) -> Row:
    """Return the spans, joules and measurements of a task that no grid has priced.

    All that was not compute, queues too, counts as download. ValueError for what cannot have been measured.
    """
    compute_s = min(_quantity("wall_s", facts["wall_s"]), max(0.0, elapsed_s))
    measured = {key: _quantity(key, facts[key]) for key in MEASURED if key in facts}
    energy = {"energy_j": _quantity("wall_energy_j", facts["wall_energy_j"])} if "wall_energy_j" in facts else {}
    return {"download_s": elapsed_s - compute_s, "compute_s": compute_s, **energy, **measured}


def _quantity(key: str, value: Any) -> float:
    if not 0 <= (number := float(value)) < math.inf:
        raise ValueError(f"{key} must be finite and >= 0, got {value}")
    return number
