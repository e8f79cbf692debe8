"""Tables from runs: variants of a configuration with every seed, at equal rounds and at equal virtual time."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from cosp.config import BASE, Config, checked, load_config, raw_config, variant_names
from cosp.console import RunProgress
from cosp.errors import ConfigError, UserError
from cosp.experiment import load_experiment
from cosp.files import replace_text
from cosp.forms import unknown
from cosp.report import read_run
from cosp.report.rows import Round, Scores
from cosp.report.tallies import untrained_blocks
from cosp.run.directory import RunDirectory
from cosp.simulation.simulate import simulate
from cosp.tables.running import REMEDY, check_folder, in_use
from cosp.tables.store import csv_text

LOCAL_VERSIONS = 10
"""Accuracy on clients' own data is the mean over the updates that arrived in that many last versions."""


@dataclass(frozen=True)
class Cell:
    """What one run reached at the base run's last version and at the base run's virtual time.

    ``short`` tells that the run ended before that time, so its last evaluation stands in.
    """

    at_rounds: Scores
    at_time: Scores
    short: bool
    hours_to_rounds: float
    local_received: float | None
    local_trained: float | None
    energy_j: float
    untrained: tuple[int, ...]
    """Blocks, from 1, that no update trained."""


COLUMNS: dict[str, Callable[[Cell], float | None]] = {
    "deepest exit, equal rounds": lambda cell: cell.at_rounds.deepest_accuracy,
    "chosen exit, equal rounds": lambda cell: cell.at_rounds.chosen_accuracy,
    "deepest exit, equal time": lambda cell: cell.at_time.deepest_accuracy,
    "chosen exit, equal time": lambda cell: cell.at_time.chosen_accuracy,
    "mean of exits, equal time": lambda cell: cell.at_time.mean_accuracy,
    "own data, as received": lambda cell: cell.local_received,
    "own data, trained": lambda cell: cell.local_trained,
}


def fill_table(
    path: Path,
    *,
    seeds: Sequence[int],
    only: Sequence[str] | None,
    folder: Path | None,
    workers: int,
    overrides: Sequence[str],
    data_dir: Path | None,
    console: Console,
) -> tuple[Path, dict[str, str]]:
    """Run every cell that has no result, write ``table.csv`` and ``table.md``, and return the latter, and the errors of
    the cells that failed, which stop no other but the base's: all are compared with that.
    """
    chosen = chosen_variants(path, only)
    folder = folder or Path("results") / load_config(path, overrides).name
    lines = tuple(dict.fromkeys((BASE, *chosen)))
    cells = {(variant, seed): variant_config(path, variant, seed, overrides) for seed in seeds for variant in lines}
    with in_use(folder):
        failed = _run_missing(cells, folder, workers=workers, data_dir=data_dir, console=console)
    found = {
        variant: [_cell(folder, variant, seed) for seed in seeds if f"{variant}/seed{seed}" not in failed]
        for variant in lines
    }
    return _write(folder, {variant: those for variant, those in found.items() if those}, seeds, failed), failed


def _run_missing(
    cells: Mapping[tuple[str, int], Config], folder: Path, *, workers: int, data_dir: Path | None, console: Console
) -> dict[str, str]:
    """Run the cells that have no result; return the refused ones, each with why. ConfigError if the base is refused."""
    failed: dict[str, str] = {}
    for i, ((variant, seed), config) in enumerate(cells.items()):
        where = folder / variant / f"seed{seed}"
        check_folder(config, where)
        if (where / "metrics.json").exists():
            continue
        console.print(f"[{i + 1}/{len(cells)}] {variant}, seed {seed}", markup=False)
        try:
            _run(config, where, workers=workers, data_dir=data_dir, console=console)
        except ConfigError as error:
            if variant == BASE:
                raise
            failed[f"{variant}/seed{seed}"] = str(error)
            console.print(f"{variant}, seed {seed} refused: {error}", markup=False, style="red", soft_wrap=True)
    return failed


def variant_config(path: Path, variant: str, seed: int, overrides: Sequence[str]) -> Config:
    """Return what the file says of a variant; ConfigError names it."""
    choice = [] if variant == BASE else [f"variant={variant}"]
    value = raw_config(path, [*choice, *overrides, f"seed={seed}"])
    return checked(value, f"{path}: {variant}" if choice else path)


def chosen_variants(path: Path, only: Sequence[str] | None) -> tuple[str, ...]:
    """Return the variants to run, "base" among them; ConfigError if one of ``only`` is unknown."""
    known = (BASE, *variant_names(path))
    for name in only or known:
        if name not in known:
            raise ConfigError(f"{path}: {unknown('variant', name, known)}")
    return tuple(only or known)


def _run(config: Config, where: Path, *, workers: int, data_dir: Path | None, console: Console) -> None:
    """Run one cell, or go on with it if it was interrupted."""
    begun = (where / "rows.jsonl").exists()
    directory = RunDirectory.reopen(where) if begun else RunDirectory.create(where, config)
    experiment = load_experiment(config, data_dir=data_dir)
    with RunProgress(console, config.server.versions) as progress:
        simulate(experiment, directory, workers=workers, on_row=progress.on_row, resume=begun)


def _cell(folder: Path, variant: str, seed: int) -> Cell:
    base = read_run(folder / BASE / f"seed{seed}")
    run = read_run(folder / variant / f"seed{seed}")
    for name, found in ((BASE, base), (variant, run)):
        if not any(row.evaluation for row in found.rounds):
            raise UserError(f"{folder / name / f'seed{seed}'}: the run evaluated no version; {REMEDY}")
    last = base.rounds[-1]
    by_rounds = _last_scores(row for row in run.rounds if row.version <= last.version)
    by_time = _last_scores(row for row in run.rounds if row.virtual_s <= last.virtual_s)
    end = [row for row in run.rounds if row.version <= last.version][-1]
    trained = [
        a for a in run.arrivals if a.accepted and a.task == "train" and 0 < end.version - a.version <= LOCAL_VERSIONS
    ]
    return Cell(
        at_rounds=by_rounds,
        at_time=by_time,
        short=run.rounds[-1].virtual_s < 0.98 * last.virtual_s,
        hours_to_rounds=end.virtual_s / 3600,
        local_received=_mean(a.local_accuracy_received for a in trained),
        local_trained=_mean(a.local_accuracy_trained for a in trained),
        energy_j=end.energy_j,
        untrained=untrained_blocks(run),
    )


def _last_scores(rounds: Iterable[Round]) -> Scores:
    """Return the scores of the last evaluated round."""
    return [row.evaluation for row in rounds if row.evaluation is not None][-1]


def _write(folder: Path, found: Mapping[str, Sequence[Cell]], seeds: Sequence[int], failed: Mapping[str, str]) -> Path:
    """Write one line a variant, mean and standard deviation over seeds."""
    head = ["variant", *COLUMNS, "time to equal rounds, relative to base", "energy to equal rounds, relative to base"]
    base_hours = statistics.fmean(cell.hours_to_rounds for cell in found[BASE])
    base_j = statistics.fmean(cell.energy_j for cell in found[BASE])
    lines = []
    for variant, cells in found.items():
        line = [variant]
        for name, pick in COLUMNS.items():
            short = "†" if "time" in name and any(cell.short for cell in cells) else ""
            line.append(_mean_sd([pick(cell) for cell in cells]) + short)
        line.append(f"{statistics.fmean(cell.hours_to_rounds for cell in cells) / base_hours:.2f}")
        line.append(f"{statistics.fmean(cell.energy_j for cell in cells) / base_j:.2f}")
        lines.append(line)
    replace_text(folder / "table.csv", csv_text([head, *lines]))
    text = ["| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *lines]]
    note = f"Accuracy on the test set, mean ± standard deviation over seeds {', '.join(map(str, seeds))}."
    short = "† ended before the base run's virtual time: its last evaluation stands in."
    refused = [f"Refused: {name}: {error}" for name, error in failed.items()]
    path = folder / "table.md"
    replace_text(path, "\n".join([note, "", *text, "", short, "", *_untrained(found), *refused]))
    return path


def _untrained(found: Mapping[str, Sequence[Cell]]) -> Iterator[str]:
    """Yield a line for each variant of which some run trained no update of a block."""
    for variant, cells in found.items():
        blocks = sorted({block for cell in cells for block in cell.untrained})
        runs = sum(bool(cell.untrained) for cell in cells)
        if blocks:
            yield (
                f"Trained by nobody: block {', '.join(map(str, blocks))} of {variant}, with {runs} of {len(cells)} "
                f"seeds; the accuracy of an exit behind says nothing of the method.\n"
            )


def _mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of those that there are, if any."""
    found = [value for value in values if value is not None]
    return statistics.fmean(found) if found else None


def _mean_sd(values: Iterable[float | None]) -> str:
    """Return mean and standard deviation of those that there are; one value has no deviation."""
    found = [value for value in values if value is not None]
    if not found:
        return "–"
    mean = f"{statistics.fmean(found):.3f}"
    return f"{mean} ± {statistics.stdev(found):.3f}" if len(found) > 1 else mean
