"""Totals by board, by staleness and by reason of refusal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from cosp.report.rows import Arrival, Client, Run


@dataclass(frozen=True, kw_only=True)
class BoardTotals:
    """What one board did in the whole run."""

    client: Client
    tasks: int  # training and scoring, refused ones too
    refused: int
    parameters: int | None  # of the last submodel that it trained
    mean_staleness: float | None  # of its training tasks
    peak_memory_bytes: int
    measured_bytes: int  # most that its process held, or torch on its GPU; 0 where nothing measured it
    limit_bytes: int  # what its tasks may hold
    bytes_down: int
    bytes_up: int
    energy_j: float
    received: float | None  # accuracy of its last submodel on its own held-back data, as received
    trained: float | None  # and after training


def board_totals(run: Run) -> list[BoardTotals]:
    """One entry a client, in client order; also for a client that never came back."""
    by_client: dict[int, list[Arrival]] = {client.client: [] for client in run.clients}
    for row in run.arrivals:
        by_client[row.client].append(row)
    return [_totals(client, by_client[client.client], limit_bytes(run, client)) for client in run.clients]


def by_share(run: Run) -> bool:
    """Tell whether a board's share of the whole model's training memory limits it: assignment rule memory_share.

    Not where boards train in mixed precision: the rows say what the whole model holds in float32.
    """
    return run.told.rule == "memory_share" and run.told.precision == "float32" and run.header.training_bytes is not None


def limit_bytes(run: Run, client: Client) -> int:
    """What the client's tasks may hold: its memory, and its share of training the whole model where that binds."""
    whole = run.header.training_bytes
    if not by_share(run) or whole is None or client.keep is None:
        return client.memory_bytes
    return min(client.memory_bytes, int(client.keep * whole))


def untrained_blocks(run: Run) -> tuple[int, ...]:
    """Blocks of the run's result, from 1, that no merged update has trained; none before any was merged."""
    merged = [row for row in run.rounds if row.arrivals]
    deepest = max(run.header.exits, default=0)
    return tuple(b + 1 for b in range(deepest) if merged and not any(row.coverage[b] for row in merged))


def _totals(client: Client, rows: Sequence[Arrival], limit_bytes: int) -> BoardTotals:
    trained = [row for row in rows if row.task == "train"]
    measured = [row for row in trained if row.local_accuracy_trained is not None]
    return BoardTotals(
        client=client,
        tasks=len(rows),
        refused=sum(not row.accepted for row in rows),
        parameters=trained[-1].parameters if trained else None,
        mean_staleness=fmean(row.staleness for row in trained) if trained else None,
        peak_memory_bytes=max((row.peak_memory_bytes for row in rows), default=0),
        measured_bytes=max((row.wall_peak_cuda_bytes or row.wall_peak_rss_bytes or 0 for row in rows), default=0),
        limit_bytes=limit_bytes,
        bytes_down=sum(row.bytes_down for row in rows),
        bytes_up=sum(row.bytes_up for row in rows),
        energy_j=sum(row.energy_j for row in rows),
        received=measured[-1].local_accuracy_received if measured else None,
        trained=measured[-1].local_accuracy_trained if measured else None,
    )


def staleness_counts(arrivals: Sequence[Arrival]) -> dict[int, tuple[int, int]]:
    """Training tasks by staleness as (merged, refused), with no gap between 0 and the largest staleness."""
    trained = [row for row in arrivals if row.task == "train"]
    merged = Counter(row.staleness for row in trained if row.accepted)
    refused = Counter(row.staleness for row in trained if not row.accepted)
    return {age: (merged[age], refused[age]) for age in range(max((*merged, *refused), default=-1) + 1)}


def refused_counts(arrivals: Sequence[Arrival]) -> dict[str, int]:
    """Refused tasks by reason, most frequent first."""
    counts = Counter(row.reason or "unknown" for row in arrivals if not row.accepted)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def sample_clients(clients: int, most: int) -> list[int]:
    """Positions of at most ``most`` clients, evenly spread from the first to the last."""
    if clients <= most:
        return list(range(clients))
    return [round(i * (clients - 1) / (most - 1)) for i in range(most)]
