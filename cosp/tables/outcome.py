"""What one run reached and took, read off its rows: a line of ``cells.csv`` and its lines of ``points.csv``."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from cosp.errors import UserError
from cosp.report import Run, read_run
from cosp.report.rows import Client, Round, Scores
from cosp.report.tallies import board_totals, staleness_counts, untrained_blocks
from cosp.tables.plan import Cell

ORIGINS = ("cpu", "cores", "system", "versions", "commit")
WORST = 0.1
"""Quantile over clients that stands for those who fare worst."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One evaluation of one cell. Lists run over exits, shallow to deep."""

    cell: str
    virtual_s: float
    version: int
    accuracy: tuple[float, ...]
    validation: tuple[float, ...]
    chosen_exit: int
    chosen: float

    @property
    def valid(self) -> float:
        """Return validation accuracy of the chosen exit."""
        return self.validation[self.chosen_exit]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One cell's figures, all at its end but ``best``. *Local* is on the clients' own held-back data.

    The chosen exit is the one with the best validation accuracy, a place in ``exits`` from 0; ``best`` is its test
    accuracy at the version with the best validation accuracy. ``memory_used`` and ``capacity_used``: the most that any
    board held, or trained, of what its keep ratio allows.
    """

    cell: str
    key: str
    level: str
    variant: str
    settings: str
    seed: int
    method: str
    exits: tuple[int, ...]
    accuracy: tuple[float, ...]
    validation: tuple[float, ...]
    chosen_exit: int
    chosen: float
    mean_of_exits: float
    macro_f1: float
    loss: float | None
    best: float
    best_s: float
    local_mean: float | None
    local_worst: float | None
    received_mean: float | None
    received_worst: float | None
    versions: int
    virtual_s: float
    updates: int
    refused: int
    staleness: tuple[int, ...]
    """Merged updates that were 0, 1, 2 ... versions old."""
    drift: float | None
    utilisation: float
    bytes_down: int
    bytes_up: int
    energy_j: float
    peak_bytes: int
    mean_peak_bytes: float
    memory_used: float
    capacity_used: float
    wall_s: float
    cpu: str
    cores: int
    system: str
    libraries: str
    commit: str
    untrained: tuple[int, ...] = ()
    """Blocks, from 1, that no update trained; none where an older cosp wrote the line."""
    backdoor: float | None = None
    """Share of test samples that a backdoor's trigger turns; none where the fleet has no backdoor."""

    def behind_untrained(self, number: int) -> bool:
        """Tell whether the exit ``number``, from 0, stands behind a block that nobody trained."""
        return any(block <= self.exits[number] for block in self.untrained)

    @property
    def valid(self) -> float:
        """Return validation accuracy of the chosen exit."""
        return self.validation[self.chosen_exit]


def read_points(cell: Cell, folder: Path) -> list[Point]:
    """Return every evaluation of a finished cell."""
    return [_point(cell, row, scores) for row, scores in read_run(folder).evaluated]


def read_outcome(cell: Cell, folder: Path, origin: Mapping[str, str]) -> Outcome:
    """Return the figures of a finished cell."""
    run = read_run(folder)
    if run.metrics is None or not run.evaluated:
        raise UserError(f"{folder}: the run has no result; remove the folder to run it anew")
    points, last, (_, scores) = read_points(cell, folder), run.rounds[-1], run.evaluated[-1]
    best = max(points, key=lambda point: point.valid)  # the first at a tie
    ages = [merged for merged, _ in staleness_counts(run.arrivals).values()]
    local, chosen = _local(run), scores.chosen_exit
    return Outcome(
        cell=cell.name, key=cell.key, level=cell.level, variant=cell.variant, settings=cell.settings, seed=cell.seed,
        method=run.header.method, exits=run.header.exits,
        accuracy=scores.accuracy, validation=scores.validation_accuracy, chosen_exit=chosen,
        chosen=scores.chosen_accuracy, mean_of_exits=scores.mean_accuracy, macro_f1=scores.macro_f1[chosen],
        loss=scores.loss[chosen], best=best.chosen, best_s=best.virtual_s, **local,
        versions=last.version, virtual_s=run.virtual_s, updates=sum(ages),
        refused=sum(not row.accepted for row in run.arrivals), staleness=tuple(ages), drift=_drift(run.rounds),
        utilisation=last.utilisation, bytes_down=last.bytes_down, bytes_up=last.bytes_up, energy_j=last.energy_j,
        **_memory(run), wall_s=run.metrics.wall_time_s,
        cpu=origin["cpu"], cores=int(origin["cores"]), system=origin["system"], libraries=origin["versions"],
        commit=origin["commit"], untrained=untrained_blocks(run), backdoor=scores.backdoor,
    )  # fmt: skip


def read_origin(path: Path) -> dict[str, str]:
    """Return what ``cosp.tables.origin`` wrote down beside a run; UserError if it is damaged."""
    try:
        found = dict(json.loads(path.read_text(encoding="utf-8")))
        if not (found.keys() >= set(ORIGINS) and found["cores"].isdigit()):
            raise ValueError(f"must say {', '.join(ORIGINS)}")
    except (OSError, AttributeError, TypeError, ValueError) as error:
        raise UserError(f"{path}: {error}; remove {path.parent} to run it anew") from None
    return found


def _point(cell: Cell, row: Round, scores: Scores) -> Point:
    if not scores.validation_accuracy:
        raise UserError(f"{cell.name}: was run by an older cosp, without validation accuracy; remove it to run it anew")
    return Point(
        cell=cell.name,
        virtual_s=row.virtual_s,
        version=row.version,
        accuracy=scores.accuracy,
        validation=scores.validation_accuracy,
        chosen_exit=scores.chosen_exit,
        chosen=scores.chosen_accuracy,
    )


def _drift(rounds: Sequence[Round]) -> float | None:
    """Return the mean over rounds that merged several updates: a single one is its own mean."""
    drifts = [row.drift for row in rounds if row.drift is not None and row.arrivals > 1]
    return fmean(drifts) if drifts else None


def _local(run: Run) -> dict[str, Any]:
    """Return mean and worst decile over clients of their latest submodel, as received and after training."""
    totals = board_totals(run)
    found: dict[str, Any] = {}
    for name, values in (
        ("local", [total.trained for total in totals if total.trained is not None]),
        ("received", [total.received for total in totals if total.received is not None]),
    ):
        found[f"{name}_mean"] = fmean(values) if values else None
        found[f"{name}_worst"] = float(np.quantile(values, WORST)) if values else None
    return found


def _memory(run: Run) -> dict[str, Any]:
    """Return peak memory of the boards, and the most that one used of what its keep ratio allows."""
    whole, training = run.header.parameters, run.header.training_bytes
    if training is None:
        raise UserError("the run is of an older cosp, which did not write training_bytes; remove it to run it anew")
    trained = {client.client: 0 for client in run.clients}
    peaks = dict(trained)
    for row in run.arrivals:
        peaks[row.client] = max(peaks[row.client], row.peak_memory_bytes)
        if row.task == "train":
            trained[row.client] = max(trained[row.client], row.parameters)
    at_work = [peak for peak in peaks.values() if peak] or [0]
    return {
        "peak_bytes": max(at_work),
        "mean_peak_bytes": fmean(at_work),
        "memory_used": _most(run, peaks, lambda client, keep: keep * training if keep else client.memory_bytes),
        "capacity_used": _most(run, trained, lambda client, keep: (keep or 1.0) * whole),
    }


def _most(run: Run, used: Mapping[int, int], allowed: Callable[[Client, float | None], float]) -> float:
    return max(used[client.client] / allowed(client, client.keep) for client in run.clients)
