"""``cosp table`` on a file with a section ``table:``: runs what is missing, searches, and writes what the cells say."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

from rich.console import Console

from cosp.config import Config, checked, raw_config
from cosp.errors import CospError, UserError
from cosp.files import replace_text
from cosp.tables import figures
from cosp.tables.lines import Line
from cosp.tables.outcome import Outcome
from cosp.tables.page import page
from cosp.tables.plan import Cell, Level, TablePlan, plan_table
from cosp.tables.progress import CellsProgress
from cosp.tables.results import Results
from cosp.tables.running import in_use, run_cells
from cosp.tables.sheets import (
    BUDGETS,
    NOTES,
    OF_BACKDOORS,
    OF_LENGTHS,
    OVER,
    UNTRAINED,
    Context,
    Sheet,
    beside_sheet,
    lengths_sheet,
    level_sheets,
    overview_sheet,
    search_sheet,
    untrained_notes,
)
from cosp.tables.writing import latex, markdown, write_measures

Found = tuple[Level, Sequence[Line]]


class Filling:
    """One call of ``cosp table``: ``failed`` holds the errors of the cells that brought no result.

    ``jobs`` 0 runs nothing.
    """

    def __init__(
        self, plan: TablePlan, folder: Path, *, jobs: int, workers: int, data_dir: Path | None, console: Console
    ) -> None:
        self.plan = plan
        self.folder = folder
        self.results = Results(folder)
        self.failed: dict[str, str] = {}
        self.tried: dict[str, list[Outcome]] = {}
        """"level variant" -> what the search found."""
        self.chosen: dict[str, str] = {}
        self.edges: dict[str, str] = {}
        self._jobs, self._workers, self._data_dir, self._console = jobs, workers, data_dir, console

    def cells(self) -> list[tuple[Level, str, list[Cell]]]:
        """Run the search, then what it chose; return the cells of each level and variant."""
        pairs = [(level, variant) for level in self.plan.levels for variant in self.plan.variants]
        searches = {
            (level.name, variant): [self.plan.cell(level, variant, one, self.plan.search_seed) for one in candidates]
            for level, variant in pairs
            if len(candidates := self.plan.candidates(variant)) > 1
        }
        self._run([cell for cells in searches.values() for cell in cells])
        found = []
        for level, variant in pairs:
            settings = self._choice(level, variant, searches.get((level.name, variant)))
            if settings is not None:
                cells = [self.plan.cell(level, variant, settings, seed) for seed in self.plan.seeds_of(variant)]
                found.append((level, variant, cells))
        self._run([cell for _, _, cells in found for cell in cells])
        return found

    def _choice(self, level: Level, variant: str, cells: list[Cell] | None) -> Mapping[str, object] | None:
        """Return the values of best validation accuracy, the first at a tie; None if a value tried has no result."""
        candidates, name = self.plan.candidates(variant), " ".join(filter(None, (level.name, variant)))
        if cells is None:
            return candidates[0]
        self.tried[name], self.chosen[name] = self.results.of(cells), ""
        if len(self.tried[name]) < len(cells):
            return None
        best = max(range(len(cells)), key=lambda i: self.tried[name][i].valid)
        self.chosen[name] = cells[best].settings
        self.edges[name] = ", ".join(self.plan.edges(variant, candidates[best]))
        return candidates[best]

    def _run(self, cells: Sequence[Cell]) -> None:
        missing = self.results.missing(cells)
        if not missing or not self._jobs:
            return
        with CellsProgress(self._console, len(missing), jobs=self._jobs) as progress:
            self.failed |= run_cells(
                missing,
                self.results.runs,
                jobs=self._jobs,
                workers=self._workers,
                data_dir=self._data_dir,
                on_news=progress.hear,
            )
        self.results.missing(missing)  # reads what has ended
        self.results.write(self.plan)


def fill_tables(
    path: Path,
    *,
    seeds: Sequence[int] | None,
    only: Sequence[str] | None,
    at: Sequence[str] | None,
    folder: Path | None,
    jobs: int,
    workers: int,
    overrides: Sequence[str],
    data_dir: Path | None,
    console: Console,
) -> tuple[Path, dict[str, str]]:
    """Run every cell that has no result, write tables, figures and page; return ``table.md``, and errors by cell.

    With ``jobs`` 0 none is run: the tables are of what is known. UserError if that is nothing.
    """
    plan = plan_table(path, only=only, at=at, seeds=seeds, overrides=overrides)
    base = checked(raw_config(path, plan.overrides), path)
    filling = Filling(
        plan, folder or Path("results") / base.name, jobs=jobs, workers=workers, data_dir=data_dir, console=console
    )
    with in_use(filling.folder) if jobs else nullcontext():
        cells = filling.cells()
    levels = [(level, _lines(filling.results, cells, level)) for level in plan.levels]
    levels = [(level, lines) for level, lines in levels if lines]
    if not levels and filling.failed:  # tables that are there already stay
        name, error = next(iter(filling.failed.items()))
        raise CospError(f"{path}: no run has a result, {len(filling.failed)} failed; {name}: {error.splitlines()[-1]}")
    if not levels:
        raise UserError(f"{filling.folder}: holds no results of {path} yet; without --no-run they are made")
    filling.results.write(plan)
    used = _used(filling, cells)
    again = _again(path, overrides, {"--at": at, "--only": only, "--seeds": seeds})
    reference = plan.settings.reference
    drawn = {level.name: _draw(filling.folder, level, lines, reference) for level, lines in levels}
    text = page(plan, base.title or base.name, used, filling.failed, drawn, again)
    replace_text(filling.folder / "index.md", text)
    write_measures(filling.folder / "table.csv", levels, reference)
    return _write_sheets(filling, levels, base), filling.failed


def _again(path: Path, overrides: Sequence[str], lists: Mapping[str, Sequence[object] | None]) -> str:
    """Return the command of this call, less where data and results lie."""
    told = [word for name, values in lists.items() if values for word in (name, ",".join(map(str, values)))]
    return shlex.join(["cosp", "table", str(path), *told, *(f"--set={text}" for text in overrides)])


def _lines(results: Results, cells: Sequence[tuple[Level, str, list[Cell]]], level: Level) -> list[Line]:
    """Return the lines of one level; a variant without any result has none."""
    lines = []
    for of_level, variant, wanted in cells:
        outcomes = {outcome.seed: outcome for outcome in results.of(wanted)} if of_level is level else {}
        if outcomes:
            points = {seed: results.points[outcome.cell] for seed, outcome in outcomes.items()}
            lines.append(Line(variant=variant, outcomes=outcomes, points=points))
    return lines


def _used(filling: Filling, cells: Sequence[tuple[Level, str, list[Cell]]]) -> list[Outcome]:
    """Return the results that the tables are made of, each once: a run of the search may be one of the seeds'."""
    searched = [outcome for tried in filling.tried.values() for outcome in tried]
    final = [outcome for _, _, wanted in cells for outcome in filling.results.of(wanted)]
    return list({outcome.cell: outcome for outcome in (*searched, *final)}.values())


def _draw(folder: Path, level: Level, lines: Sequence[Line], reference: str) -> list[Path]:
    paths = {
        name: folder / "-".join(filter(None, (name, level.name)))
        for name in ("accuracy", "memory", "utilisation", "staleness")
    }
    paths = {name: path.with_name(path.name + ".svg") for name, path in paths.items()}
    figures.draw_accuracy(lines, reference, paths["accuracy"])
    figures.draw_memory(lines, paths["memory"])
    figures.draw_utilisation(lines, paths["utilisation"])
    figures.draw_staleness(lines, paths["staleness"])
    return list(paths.values())


def _write_sheets(filling: Filling, levels: Sequence[Found], base: Config) -> Path:
    """Write ``table.md`` and ``table.tex`` and return the former."""
    sheets: list[Sheet] = []
    rule, counts = base.assignment.rule, getattr(base.method, "budget", "parameters")
    budget = BUDGETS.get((rule, counts))
    reference, lengths_s = filling.plan.settings.reference, filling.plan.settings.lengths_s
    by_level = {level.name: lines for level, lines in levels}
    if len(levels) > 1:
        sheets += [overview_sheet(by_level), beside_sheet(by_level, reference)]
    for level, lines in levels:
        sheets += level_sheets(lines, Context(reference, level.target_accuracy, budget), level.name)
        if lengths_s:
            sheets.append(lengths_sheet(lines, reference, lengths_s, level.name))
    if filling.tried:
        sheets.append(search_sheet(filling.tried, filling.chosen, filling.edges))
    notes = [f"- *{name}*: {text}" for name, text in NOTES.items()]
    if any(line.has_backdoor for _, lines in levels for line in lines):
        notes.append(f"- *backdoor*: {OF_BACKDOORS}")
    if lengths_s:
        notes.append(f"- *by a time*: {OF_LENGTHS}")
    if budget:
        notes.append(f"- {OVER}: over the budget that the base's assignment rule, {rule}, gives")
    if untrained := untrained_notes(by_level):
        notes.append(
            f"- {UNTRAINED}: of an exit behind a block that nobody trained, with one seed at least, whose "
            f"accuracy says nothing of the method: {'; '.join(untrained)}"
        )
    text = "\n\n".join(
        [f"Seeds {filling.plan.seeds_text}.", *(f"## {s.title}\n\n{markdown(s)}" for s in sheets), "\n".join(notes)]
    )
    path = filling.folder / "table.md"
    replace_text(path, text + "\n")
    replace_text(filling.folder / "table.tex", "\n\n".join(map(latex, sheets)) + "\n")
    return path
