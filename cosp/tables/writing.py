"""Sheets as Markdown and LaTeX, and every measure of every line as CSV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cosp.files import replace_text
from cosp.tables.lines import Line, line_of, measures
from cosp.tables.plan import Level
from cosp.tables.sheets import NOT_APART, OVER, UNTRAINED, Sheet
from cosp.tables.spread import Spread
from cosp.tables.store import csv_text

LATEX = {
    "\\": r"\textbackslash{}",
    "±": r"$\pm$",
    OVER: r"$^\ddagger$",
    UNTRAINED: r"$^\dagger$",
    NOT_APART: r"$\approx$",
    "–": "--",
    **{c: "\\" + c for c in "&%$#_{}"},
}
STATISTICS = ("mean", "sd", "half_interval", "seeds")


def markdown(sheet: Sheet) -> str:
    rows = [sheet.head, ["---"] * len(sheet.head), *sheet.lines]
    return "\n".join(["| " + " | ".join(row) + " |" for row in rows])


def latex(sheet: Sheet) -> str:
    """Return a table for the package booktabs."""
    rows = [" & ".join(map(_escaped, row)) + r" \\" for row in [sheet.head, *sheet.lines]]
    return "\n".join(
        [
            f"% {sheet.title}",
            rf"\begin{{tabular}}{{l{'r' * (len(sheet.head) - 1)}}}",
            r"\toprule",
            rows[0],
            r"\midrule",
            *rows[1:],
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )


def write_measures(path: Path, levels: Sequence[tuple[Level, Sequence[Line]]], reference: str) -> None:
    """Write one row for each level, variant and measure: its spread, and that of its differences to the line
    ``reference``.
    """
    head = ["level", "variant", "measure", *STATISTICS, *(f"beside_{reference}_{name}" for name in STATISTICS)]
    rows = [head]
    for level, lines in levels:
        first = line_of(lines, reference)
        for line in lines:
            for measure in measures(line):
                own = line.spread(measure, level.target_accuracy)
                beside = line.beside(first, measure, level.target_accuracy) if first else None
                rows.append([level.name, line.variant, measure.name, *_figures(own), *_figures(beside)])
    replace_text(path, csv_text(rows))


def _figures(found: Spread | None) -> list[str]:
    if found is None:
        return ["", "", "", "0"]
    return ["" if value is None else repr(value) for value in (found.mean, found.sd, found.half)] + [str(found.count)]


def _escaped(text: str) -> str:
    return "".join(LATEX.get(character, character) for character in text)
