"""One self-contained HTML page from one run directory or several: no script, no network, the same bytes every time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from cosp.errors import UserError
from cosp.files import shown_name, write_whole
from cosp.report import units
from cosp.report.about import about, untrained_text
from cosp.report.measurements import Measurements, measurements
from cosp.report.palette import look
from cosp.report.plots import MOST_BOARDS, Section, accuracy_section, run_sections
from cosp.report.read import read_run
from cosp.report.rows import Run, Scores
from cosp.report.style import house_style
from cosp.report.summary import Summary, summarise
from cosp.report.tallies import BoardTotals, board_totals, sample_clients


@dataclass(frozen=True, kw_only=True)
class RunPage:
    """What the template shows of one run."""

    run: Run
    label: str  # its name, with its directory where names repeat
    anchor: str
    summary: Summary
    boards: tuple[BoardTotals, ...]
    sections: tuple[Section, ...]

    @property
    def accuracies(self) -> list[tuple[str, float | None, float | None]]:
        """Rows of the headline: name, at the end, at the version that validation data prefer."""
        final, best = self.summary.final, self.summary.best
        rows: list[tuple[str, float | None, float | None]] = []
        if final:
            rows += [
                ("deepest exit", final.deepest_accuracy, best.deepest_accuracy if best else None),
                (self._chosen(final, best), final.chosen_accuracy, best.chosen_accuracy if best else None),
                ("mean of exits", final.mean_accuracy, best.mean_accuracy if best else None),
            ]
        final_local, best_local = self.summary.final_local, self.summary.best_local
        if final_local.mean is not None:
            rows.append(("local, mean of clients", final_local.mean, best_local.mean))
        if final_local.worst_decile is not None:
            rows.append(("local, worst tenth of clients", final_local.worst_decile, best_local.worst_decile))
        return rows or [("no round was evaluated", None, None)]

    @property
    def about(self) -> list[tuple[str, str]]:
        return about(self.run)

    @property
    def measurements(self) -> Measurements | None:
        return measurements(self.run, [row.client for row in self.boards])

    @property
    def notices(self) -> list[str]:
        return [text for text in (*self.run.notices, untrained_text(self.run)) if text]

    def _chosen(self, final: Scores, best: Scores | None) -> str:
        """Name the chosen exit by the block after which it stands; the best version may have another."""
        exits = self.run.header.exits
        if best is None or best.chosen_exit == final.chosen_exit:
            return f"chosen exit (after block {exits[final.chosen_exit]})"
        return f"chosen exit (after block {exits[final.chosen_exit]}, at the best {exits[best.chosen_exit]})"


def write_report(run_dirs: Sequence[Path], out: Path) -> Path:
    """Write the report of ``run_dirs`` to the file ``out`` and return it.

    One run gets all its figures; several are overlaid in the accuracy figures and keep their own device figures. A run
    that was stopped half-way is shown as far as it came. Raises ``UserError`` for a directory that holds no run.
    """
    if not run_dirs:
        raise UserError("run directories: got none, needs at least one; give the --out folder of a `cosp run`")
    runs = [read_run(Path(run_dir)) for run_dir in run_dirs]
    html = render(runs, labels(run_dirs, runs))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        known = out.read_bytes()[:200] if out.is_file() else b""
        if known and b"<!doctype html" not in known.lower():
            raise UserError(f"{out}: is there already, and is no report; choose another --out")
        write_whole(out, shown_name(html))  # a path in it may be no UTF-8
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror}); choose another --out") from None
    return out


def labels(run_dirs: Sequence[Path], runs: Sequence[Run]) -> list[str]:
    """The runs' names; where two are equal, the names of their directories tell them apart."""
    names = [run.header.name for run in runs]
    if len(set(names)) == len(names):
        return names
    return [f"{name} ({Path(run_dir).name})" for name, run_dir in zip(names, run_dirs, strict=True)]


def render(runs: Sequence[Run], labels: Sequence[str]) -> str:
    with house_style():
        overview = accuracy_section(runs, labels)
        pages = [
            _run_page(run, label, number if len(runs) > 1 else 0)
            for number, (run, label) in enumerate(zip(runs, labels, strict=True), 1)
        ]
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files("cosp.report").joinpath("report.html.j2").read_text(encoding="utf-8"))
    return template.render(
        title=(runs[0].told.title or labels[0]) if len(runs) == 1 else f"{len(runs)} runs side by side",
        overview=overview,
        pages=pages,
        look=Markup(look()),
        u=units,
    )


def _run_page(run: Run, label: str, number: int) -> RunPage:
    totals = board_totals(run)
    return RunPage(
        run=run,
        label=label,
        anchor=f"run-{number}",
        summary=summarise(run),
        boards=tuple(totals[i] for i in sample_clients(len(totals), MOST_BOARDS)),
        sections=tuple(run_sections(run, f"-{number}" if number else "")),
    )
