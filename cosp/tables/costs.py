"""Tables of what runs would cost: dry runs of every variant of a configuration, by variant and by board.

Times come from the same loop and the same virtual time as those of trained runs; nothing is trained, so nothing is
kept but the tables and figures.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean

from rich.console import Console

from cosp.config import Config, load_config
from cosp.experiment import load_experiment
from cosp.files import make_folder, replace_text
from cosp.report import Run, read_run
from cosp.report.costs import BoardCost, VariantCost, variant_cost
from cosp.report.figure_costs import draw_memory, draw_times
from cosp.report.units import quantity
from cosp.run.directory import RunDirectory
from cosp.simulation.simulate import simulate
from cosp.tables.plain import chosen_variants, variant_config
from cosp.tables.store import csv_text

TABLE: dict[str, Callable[[VariantCost, VariantCost], str]] = {
    "parameters": lambda cost, first: f"{cost.parameters / 1e6:.1f} M",
    "memory in training": lambda cost, first: quantity(_memory(cost), "B"),
    "relative": lambda cost, first: f"{_memory(cost) / _memory(first):.2f}",
    "with importance learning": lambda cost, first: quantity(fmean(b.peak_bytes for b in _limited(cost)), "B"),
    "boards over their memory": lambda cost, first: str(sum(b.peak_bytes > b.limit_bytes for b in cost.boards)),
    "hours a round": lambda cost, first: f"{cost.round_s / 3600:.3g}",
    "hours a turn": lambda cost, first: f"{cost.turn_s / 3600:.3g}",
    "relative time": lambda cost, first: f"{cost.turn_s / first.turn_s:.2f}",
    "utilisation": lambda cost, first: f"{cost.utilisation:.2f}",
    "energy a turn": lambda cost, first: quantity(cost.turn_j, "J"),
    "bytes a turn": lambda cost, first: quantity(cost.turn_bytes, "B"),
}
"""Column -> text for a variant, given the first one that has the same whole model."""

NOTE = """Dry runs, nothing was trained; seeds {seeds}. Memory: mean over the boards that keep less than everything, at
the peak of a training task; *relative* to the first line with the same model. A *turn* is as many merged updates as
there are clients, which is what a synchronous round brings."""

BOARD_COLUMNS = ("variant", "client", "board", "keep", "limit_bytes", "parameters", "training_bytes", "scoring_bytes",
                 "task_s", "busy")  # fmt: skip


def fill_cost_table(
    path: Path,
    *,
    seeds: Sequence[int],
    only: Sequence[str] | None,
    folder: Path | None,
    overrides: Sequence[str],
    data_dir: Path | None,
    console: Console,
) -> Path:
    """Run every variant dry; write ``table.csv``, ``table.md``, ``boards.csv``, two figures; return ``table.md``."""
    chosen = chosen_variants(path, only)
    folder = folder or Path("results") / load_config(path, overrides).name
    found = []
    for i, variant in enumerate(chosen):
        console.print(f"[{i + 1}/{len(chosen)}] {variant}", markup=False)
        runs = [_dry_run(variant_config(path, variant, seed, overrides), data_dir) for seed in seeds]
        found.append(variant_cost(variant, runs))
    make_folder(folder)
    _write_boards(folder / "boards.csv", found)
    draw_memory(found, folder / "memory.svg")
    draw_times(found, folder / "times.svg")
    return _write_table(folder, found, seeds)


def _dry_run(config: Config, data_dir: Path | None) -> Run:
    experiment = load_experiment(config, data_dir=data_dir)
    with tempfile.TemporaryDirectory(prefix="cosp-") as folder:
        directory = RunDirectory.create(Path(folder) / "run", config)
        simulate(experiment, directory, workers=1, dry=True)
        return read_run(directory.folder)


def _limited(cost: VariantCost) -> list[BoardCost]:
    """Return the limited boards; all where none is."""
    return cost.limited or list(cost.boards)


def _memory(cost: VariantCost) -> float:
    return fmean(board.training_bytes for board in _limited(cost))


def _write_boards(path: Path, found: Sequence[VariantCost]) -> None:
    lines = [[cost.variant, *(_figure(getattr(board, name)) for name in BOARD_COLUMNS[1:])]
             for cost in found for board in cost.boards]  # fmt: skip
    replace_text(path, csv_text([BOARD_COLUMNS, *lines]))


def _figure(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _write_table(folder: Path, found: Sequence[VariantCost], seeds: Sequence[int]) -> Path:
    first = {cost.parameters: cost for cost in reversed(found)}
    head = ["variant", *TABLE]
    lines = [[cost.variant, *(text(cost, first[cost.parameters]) for text in TABLE.values())] for cost in found]
    replace_text(folder / "table.csv", csv_text([head, *lines]))
    rows = ["| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *lines]]
    path = folder / "table.md"
    note = NOTE.format(seeds=", ".join(map(str, seeds)))
    replace_text(path, "\n".join([note, "", *rows, ""]))
    return path
