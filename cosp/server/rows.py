"""What a run writes down as it goes: a row for each arrival, and one when a client can afford something else."""

from __future__ import annotations

from typing import Any

from cosp.errors import RefusedUpdate
from cosp.fleet.introduction import Introduction
from cosp.methods.clients import ClientRecord
from cosp.task.demand import download_bytes, peak_memory_bytes, upload_bytes
from cosp.task.task import Task
from cosp.wire.door import Facts, TrainFacts

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


def client_row(client: Introduction, claimed: Row, planned: Row | None = None) -> Row:
    """Return the row of a client that takes part; ``claimed``: what it said that is more than is believed; ``planned``:
    what the fleet file plans with, where its own limit is lower.

    Of its words, if it has its own, how many they are: which stays with the server.
    """
    row: Row = {"kind": "client", **vars(client)}
    del row["speed"], row["gpu"], row["keeps_frozen"], row["recipe"]  # the board's own files say it better
    words = row.pop("words")
    row |= {} if words is None else {"words": len(words)}
    return row | ({"claimed": claimed} if claimed else {}) | ({"planned": planned} if planned else {})


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


def reported(row: Row, facts: Facts) -> Row:
    """Return what a client's reply adds to its row; RefusedUpdate if it does not say what its task took.

    Spans and energy come from the grid's cost model if it has one (``cost``), else from what the client measured.
    """
    found: Row = {"samples": facts.samples}
    if isinstance(facts, TrainFacts):
        found |= {key: getattr(facts, key) for key in ("loss", "local_accuracy_received", "local_accuracy_trained")}
    if facts.cost is not None:
        return found | dict(facts.cost)
    return found | _measured(row["arrived_s"] - row["sent_s"], facts)


MEASURED = (
    "wall_step_s", "wall_peak_rss_bytes", "wall_peak_cuda_bytes", "wall_cpu_s", "wall_cpu_share", "wall_temperature_c",
    "wall_throttled_share", "wall_frequency_hz", "wall_received_bytes", "wall_sent_bytes",
)  # fmt: skip
"""What an arrival's row holds where a real machine did the task, as far as that machine can tell."""


def _measured(elapsed_s: float, facts: Facts) -> Row:
    """Return the spans, joules and measurements of a task that no grid has priced.

    All that was not compute, queues too, counts as download.
    """
    if facts.wall_s is None:
        raise RefusedUpdate("malformed", "the facts: wall_s: is missing")
    compute_s = min(facts.wall_s, max(0.0, elapsed_s))
    measured = {key: value for key in MEASURED if (value := getattr(facts, key)) is not None}
    energy = {} if facts.wall_energy_j is None else {"energy_j": facts.wall_energy_j}
    return {"download_s": elapsed_s - compute_s, "compute_s": compute_s, **energy, **measured}
