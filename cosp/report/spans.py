"""Who did what when: arrivals -> spans of virtual time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cosp.report.rows import Arrival, Run

UNDER_WAY = "still under way"
PHASES = ("received", "scored", "summed", "trained", "sent", UNDER_WAY)
WAITED = "waited"
COMPUTED = {"score": "scored", "moments": "summed", "train": "trained"}


@dataclass(frozen=True)
class Span:
    client: int
    phase: str
    start_s: float
    end_s: float


def spans(arrivals: Iterable[Arrival]) -> Iterator[Span]:
    """The three spans of each task in order: received; scored, summed (moments of features) or trained; sent."""
    for row in arrivals:
        computed_from = row.sent_s + row.download_s
        sent_from = computed_from + row.compute_s
        yield Span(row.client, "received", row.sent_s, computed_from)
        yield Span(row.client, COMPUTED[row.task], computed_from, sent_from)
        yield Span(row.client, "sent", sent_from, row.arrived_s)


def spans_of(run: Run) -> Iterator[Span]:
    """The spans of all that came back, then those of the tasks that were under way when the run ended."""
    yield from spans(run.arrivals)
    for task in run.under_way or ():
        yield Span(task.client, UNDER_WAY, min(task.sent_s, run.virtual_s), run.virtual_s)


def clip(spans: Iterable[Span], until_s: float) -> Iterator[Span]:
    """What of ``spans`` lies before ``until_s``."""
    for span in spans:
        if span.start_s < until_s:
            yield Span(span.client, span.phase, span.start_s, min(span.end_s, until_s))


def shares_of_time(run: Run) -> dict[int, dict[str, float]]:
    """For each client the share of the run that it spent in each phase; the shares sum to 1.

    What is under way is known at the end of a run alone: of a run that was stopped it counts as waited.
    """
    until_s = run.virtual_s
    shares = {client.client: dict.fromkeys((*PHASES, WAITED), 0.0) for client in run.clients}
    for span in clip(spans_of(run), until_s):
        shares[span.client][span.phase] += (span.end_s - span.start_s) / until_s
    for parts in shares.values():
        parts[WAITED] = max(0.0, 1.0 - sum(parts.values()))
    return shares


def utilisation(run: Run) -> float:
    """U = sum of busy time / (clients x virtual time), busy = computing or transferring."""
    shares = shares_of_time(run)
    return sum(1.0 - parts[WAITED] for parts in shares.values()) / len(shares) if shares else 0.0
