"""The headline of one run: from ``metrics.json`` where it is there, else from the rows."""

from __future__ import annotations

from dataclasses import dataclass

from cosp.report.rows import Local, Run, Scores
from cosp.report.spans import utilisation
from cosp.report.tallies import refused_counts


@dataclass(frozen=True, kw_only=True)
class Summary:
    final: Scores | None
    best: Scores | None
    final_local: Local
    best_local: Local
    rounds: int
    virtual_s: float
    wall_s: float | None
    utilisation: float
    energy_j: float
    bytes_down: int
    bytes_up: int
    merged: int
    refused: dict[str, int]


def summarise(run: Run) -> Summary:
    """Without ``metrics.json``, final is the last evaluated round. Best is the one whose chosen exit validation data
    prefer, the first at a tie, whatever an older cosp wrote; None where no validation accuracy is known.
    """
    scores = [scores for _, scores in run.evaluated]
    judged = [one for one in scores if one.valid is not None]
    best = max(judged, key=lambda one: one.valid or 0.0, default=None)
    last = run.rounds[-1] if run.rounds else None
    metrics = run.metrics
    return Summary(
        final=metrics.final.scores if metrics else (scores[-1] if scores else None),
        best=best,
        final_local=(metrics and metrics.final.local) or Local(),
        best_local=(metrics and metrics.best.scores == best and metrics.best.local) or Local(),
        rounds=last.version if last else 0,
        virtual_s=run.virtual_s,
        wall_s=metrics.wall_time_s if metrics else (last.wall_s if last else None),
        utilisation=last.utilisation if last else utilisation(run),
        energy_j=last.energy_j if last else 0.0,
        bytes_down=last.bytes_down if last else 0,
        bytes_up=last.bytes_up if last else 0,
        merged=sum(row.accepted and row.task == "train" for row in run.arrivals),
        refused=refused_counts(run.arrivals),
    )
