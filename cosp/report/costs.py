"""What runs of one variant took, on average and on each board; all of it is in a dry run's rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from cosp.report.rows import Run
from cosp.report.spans import WAITED, shares_of_time
from cosp.report.tallies import limit_bytes, untrained_blocks


@dataclass(frozen=True, kw_only=True)
class BoardCost:
    """What one client of a run had to give. A score task is importance learning."""

    client: int
    board: str
    keep: float | None
    limit_bytes: int
    parameters: int  # of its submodel
    training_bytes: int  # peak of its training tasks
    scoring_bytes: int  # peak of its score tasks, 0 without any
    task_s: float  # of a training task, mean
    busy: float  # share of the run that it computed or transferred

    @property
    def peak_bytes(self) -> int:
        return max(self.training_bytes, self.scoring_bytes)


@dataclass(frozen=True, kw_only=True)
class VariantCost:
    """What one variant took. A *turn* is as many merged updates as there are clients: a synchronous round."""

    variant: str
    parameters: int  # of the whole model
    boards: tuple[BoardCost, ...]
    round_s: float
    turn_s: float
    turn_j: float
    turn_bytes: float
    utilisation: float
    untrained: tuple[int, ...]
    """Blocks, from 1, that no update trained in any one of the runs."""

    @property
    def limited(self) -> list[BoardCost]:
        """The boards that cannot be given everything."""
        return [board for board in self.boards if board.keep != 1.0]


def variant_cost(variant: str, runs: Sequence[Run]) -> VariantCost:
    """Return what ``runs`` of one variant, which differ by seed, took on average."""
    return VariantCost(
        variant=variant,
        parameters=runs[0].header.parameters,
        boards=tuple(_board_cost(runs, client) for client in range(runs[0].header.clients)),
        round_s=fmean(run.virtual_s / run.rounds[-1].version for run in runs),
        turn_s=fmean(run.virtual_s / _turns(run) for run in runs),
        turn_j=fmean(run.rounds[-1].energy_j / _turns(run) for run in runs),
        turn_bytes=fmean((run.rounds[-1].bytes_down + run.rounds[-1].bytes_up) / _turns(run) for run in runs),
        utilisation=fmean(run.rounds[-1].utilisation for run in runs),
        untrained=tuple(sorted({block for run in runs for block in untrained_blocks(run)})),
    )


def _turns(run: Run) -> float:
    merged = sum(row.accepted and row.task == "train" for row in run.arrivals)
    return merged / run.header.clients


def _board_cost(runs: Sequence[Run], client: int) -> BoardCost:
    who = runs[0].clients[client]
    rows = [row for run in runs for row in run.arrivals if row.client == client]
    trained = [row for row in rows if row.task == "train"]
    return BoardCost(
        client=client,
        board=who.board,
        keep=who.keep,
        limit_bytes=limit_bytes(runs[0], who),
        parameters=max((row.parameters for row in trained), default=0),
        training_bytes=max((row.peak_memory_bytes for row in trained), default=0),
        scoring_bytes=max((row.peak_memory_bytes for row in rows if row.task == "score"), default=0),
        task_s=fmean(row.arrived_s - row.sent_s for row in trained) if trained else 0.0,
        busy=fmean(1 - shares_of_time(run)[client][WAITED] for run in runs),
    )
