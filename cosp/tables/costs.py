"""Tables of what runs would cost: dry runs of every variant at every level of a file, by variant and by board.

Times come from the same loop and the same virtual time as those of trained runs; nothing is trained, so nothing is
kept but the tables and figures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean

from rich.console import Console

from cosp.config import BASE, Config, checked, raw_config
from cosp.errors import CospError, UserError
from cosp.experiment import load_experiment
from cosp.files import make_folder, replace_text
from cosp.held import scratch_folder
from cosp.report import Run, read_run
from cosp.report.costs import BoardCost, VariantCost, variant_cost
from cosp.report.figure_costs import draw_memory, draw_times
from cosp.report.units import quantity
from cosp.run.directory import RunDirectory
from cosp.simulation.simulate import simulate
from cosp.tables.plan import Level, TablePlan, plan_table
from cosp.tables.results import CELLS, RUNS
from cosp.tables.running import REMEDY
from cosp.tables.store import csv_text

TABLE: dict[str, Callable[[VariantCost, VariantCost], str]] = {
    "parameters": lambda cost, first: f"{cost.parameters / 1e6:.1f} M",
    "memory in training": lambda cost, first: quantity(_memory(cost), "B"),
    "relative": lambda cost, first: f"{_memory(cost) / _memory(first):.2f}",
    "with importance learning": lambda cost, first: quantity(fmean(b.peak_bytes for b in _limited(cost)), "B"),
    "boards over their limit": lambda cost, first: str(sum(b.peak_bytes > b.limit_bytes for b in cost.boards)),
    "hours a round": lambda cost, first: f"{cost.round_s / 3600:.3g}",
    "hours a turn": lambda cost, first: f"{cost.turn_s / 3600:.3g}",
    "relative time": lambda cost, first: f"{cost.turn_s / first.turn_s:.2f}",
    "utilisation": lambda cost, first: f"{cost.utilisation:.2f}",
    "energy a turn": lambda cost, first: quantity(cost.turn_j, "J"),
    "bytes a turn": lambda cost, first: quantity(cost.turn_bytes, "B"),
}
"""Column -> text for a variant, given the first one that has the same whole model."""

NOTE = """Dry runs, nothing was trained; seeds {seeds}. Memory: mean over the boards that keep less than everything, at
the peak of a training task; *relative* to the first line with the same model. *Over their limit*: hold more than their
memory, or than their share under `memory_share`. A *turn* is as many merged updates as there are clients, which is what
a synchronous round brings."""

BOARD_COLUMNS = ("variant", "client", "board", "keep", "limit_bytes", "parameters", "training_bytes", "scoring_bytes",
                 "task_s", "busy")  # fmt: skip

Found = Mapping[str, Sequence[VariantCost]]
"""Level of the grid -> its lines; the one level of a file without a grid has no name."""


def fill_cost_table(
    path: Path,
    *,
    seeds: Sequence[int] | None,
    only: Sequence[str] | None,
    at: Sequence[str] | None = None,
    folder: Path | None,
    overrides: Sequence[str],
    data_dir: Path | None,
    console: Console,
) -> tuple[Path, dict[str, str]]:
    """Run every variant dry at every level; write ``table.csv``, ``table.md``, ``boards.csv`` and two figures a level.

    Return ``table.md``, and by name the errors of the lines that are refused, which stop no other; UserError if all
    are. Of values that the file's table searches the first are taken.
    """
    plan = plan_table(path, only=only, at=at, seeds=seeds, overrides=overrides)
    folder = folder or Path("results") / checked(raw_config(path, plan.overrides), path).name
    _check_folder(folder)
    found, refused = _run_all(plan, tuple(only or plan.variants), data_dir, console)
    if not any(found.values()):
        name, error = next(iter(refused.items()))
        raise UserError(f"{path}: no line can be run, {len(refused)} are refused; {name}: {error}")
    make_folder(folder)
    for level, costs in found.items():
        if costs:
            draw_memory(costs, folder / f"{'-'.join(filter(None, ('memory', level)))}.svg")
            draw_times(costs, folder / f"{'-'.join(filter(None, ('times', level)))}.svg")
    _write_boards(folder / "boards.csv", found)
    return _write_table(folder, found, refused, plan.seeds_text), refused


def _check_folder(folder: Path) -> None:
    """UserError if ``folder`` holds a table of trained runs, which this one would take the place of."""
    if any((folder / name).exists() for name in (CELLS, RUNS, BASE)):
        raise UserError(f"{folder}: holds a table of runs that were trained; {REMEDY}")


def _run_all(
    plan: TablePlan, variants: Sequence[str], data_dir: Path | None, console: Console
) -> tuple[dict[str, list[VariantCost]], dict[str, str]]:
    """Return the lines of each level, and the errors of those that are refused."""
    found: dict[str, list[VariantCost]] = {level.name: [] for level in plan.levels}
    refused: dict[str, str] = {}
    pairs = [(level, variant) for level in plan.levels for variant in variants]
    for number, (level, variant) in enumerate(pairs, 1):
        name = " ".join(filter(None, (level.name, variant)))
        console.print(f"[{number}/{len(pairs)}] {name}", markup=False)
        try:
            found[level.name].append(_cost(plan, level, variant, data_dir))
        except CospError as error:
            refused[name] = " ".join(str(error).split())
            console.print(f"{name} refused: {refused[name]}", markup=False, style="red", soft_wrap=True)
    return found, refused


def _cost(plan: TablePlan, level: Level, variant: str, data_dir: Path | None) -> VariantCost:
    settings = plan.candidates(variant)[0]
    cells = (plan.cell(level, variant, settings, seed) for seed in plan.seeds_of(variant))
    return variant_cost(variant, [_dry_run(cell.config, data_dir) for cell in cells])


def _dry_run(config: Config, data_dir: Path | None) -> Run:
    experiment = load_experiment(config, data_dir=data_dir)
    with scratch_folder("dry") as folder:
        directory = RunDirectory.create(folder / "run", config)
        simulate(experiment, directory, workers=1, dry=True)
        return read_run(directory.folder)


def _limited(cost: VariantCost) -> list[BoardCost]:
    """Return the limited boards; all where none is."""
    return cost.limited or list(cost.boards)


def _memory(cost: VariantCost) -> float:
    return fmean(board.training_bytes for board in _limited(cost))


def _write_boards(path: Path, found: Found) -> None:
    lines = [
        [cost.variant, *(_figure(getattr(board, name)) for name in BOARD_COLUMNS[1:])]
        for costs in found.values()
        for cost in costs
        for board in cost.boards
    ]
    levels = [level for level, costs in found.items() for cost in costs for _ in cost.boards]
    replace_text(path, csv_text(_with_levels([list(BOARD_COLUMNS), *lines], levels)))


def _figure(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _write_table(folder: Path, found: Found, refused: Mapping[str, str], seeds: str) -> Path:
    head, by_level = ["variant", *TABLE], {level: list(_lines(costs)) for level, costs in found.items()}
    lines = [line for level in by_level.values() for line in level]
    levels = [level for level, its in by_level.items() for _ in its]
    replace_text(folder / "table.csv", csv_text(_with_levels([head, *lines], levels)))
    parts = [NOTE.format(seeds=seeds)]
    for level, its in by_level.items():
        parts += [f"## {level}"] if level else []
        parts += (
            ["\n".join("| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *its])] if its else []
        )
    if refused:
        parts.append("Refused:\n\n" + "\n".join(f"- {name}: {error}" for name, error in refused.items()))
    if untrained := _untrained(found):
        parts.append("Blocks that no board trains:\n\n" + "\n".join(f"- {text}" for text in untrained))
    path = folder / "table.md"
    replace_text(path, "\n\n".join(parts) + "\n")
    return path


def _lines(costs: Sequence[VariantCost]) -> Iterable[list[str]]:
    first = {cost.parameters: cost for cost in reversed(costs)}
    for cost in costs:
        yield [cost.variant, *(text(cost, first[cost.parameters]) for text in TABLE.values())]


def _with_levels(rows: Sequence[list[str]], levels: Sequence[str]) -> list[list[str]]:
    """Return ``rows``, the first their head, each with its level before it if there is a grid."""
    if not any(levels):
        return list(rows)
    return [[level, *row] for level, row in zip(["level", *levels], rows, strict=True)]


def _untrained(found: Found) -> list[str]:
    return [
        f"{' '.join(filter(None, (level, cost.variant)))}: {', '.join(map(str, cost.untrained))}"
        for level, costs in found.items()
        for cost in costs
        if cost.untrained
    ]
