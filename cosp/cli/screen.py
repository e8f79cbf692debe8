"""What the commands share: where output goes, the options that many of them take, how a table looks."""

from __future__ import annotations

import codecs
import io
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from cosp.errors import UserError

if TYPE_CHECKING:
    from cosp.checkpoints import Imported
    from cosp.experiment import Experiment

out = Console(markup=False, emoji=False)  # names and titles are the user's and are shown as they are
err = Console(markup=False, emoji=False, stderr=True)

ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML file, e.g. experiments/quickstart.yaml")]
DataDir = Annotated[
    Path | None, typer.Option("--data-dir", envvar="COSP_DATA_DIR", help="Where data sets lie (mnist/, cifar10/, ...)")
]
Sets = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override one key; may be given often")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout")]
WithReport = Annotated[
    bool, typer.Option("--report/--no-report", help="Draw report.html; cosp report DIR does it later")
]


IN_ASCII = {"·": "-", "–": "-", "±": "+-", "≈": "~", "†": "*", "‡": "**"}


def show_any_text() -> None:
    """Have a terminal or a file that takes ASCII alone get something like every character, not an error."""
    codecs.register_error("cosp", _something_like)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="cosp")


def _something_like(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)  # the streams are written to
    text = error.object[error.start : error.end]
    return "".join(IN_ASCII.get(character, "?") for character in text), error.end


def free_folder(parent: Path, name: str) -> Path:
    """Return ``parent/name``, or the first of ``parent/name-2``, ``-3`` ... that does not exist yet."""
    candidates = (parent / (name if n == 1 else f"{name}-{n}") for n in range(1, 1_000_000))
    return next(path for path in candidates if not path.exists())


def check_begins_or_goes_on(
    command: str, config: Path | None, resume: Path | None, *, anew: bool, what: str, example: str
) -> None:
    """UserError unless CONFIG or --resume is given, or with --resume if ``anew``: options were given that what goes on,
    a run or a stream, does not take.
    """
    if (config is None) == (resume is None):
        got = "neither" if config is None else "both"
        raise UserError(f"{command}: give either CONFIG or --resume DIR, got {got}, e.g. cosp {command} {example}")
    if resume is not None and anew:
        raise UserError(
            f"{command}: --resume goes on with a {what} as it is: no --set, --seed, --out or --dry beside it"
        )


def print_table(title: str, columns: tuple[str, ...], rows: Iterable[tuple[str, ...]], *, left: int) -> None:
    """Print a table whose first ``left`` columns are text and whose others are figures."""
    found = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for i, column in enumerate(columns):
        found.add_column(column, justify="left" if i < left else "right", no_wrap=i != len(columns) - 1 or left != 2)
    for row in rows:
        found.add_row(*row)
    out.print(found)


def print_imported(imported: Imported, fitted: Sequence[int]) -> None:
    """Say on stderr what a pretrained model gives to a run that fits the heads after the blocks ``fitted``."""
    from cosp.checkpoints import table

    found = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in ("", "tensors", "parameters"):
        found.add_column(column, justify="right" if column else "left", no_wrap=True)
    found.add_column("which", overflow="fold")
    for row in table.rows(imported, fitted):
        found.add_row(*row)
    err.print(table.title(imported), soft_wrap=True)
    err.print(found)


def print_calibrations(boards: Iterable[tuple[str, str]]) -> None:
    from cosp.console import calibration_lines

    for line in calibration_lines(boards):
        out.print(line, highlight=False)


def new_typer() -> typer.Typer:
    """Return an app for one file's commands; ``main`` adds it to the others."""
    return typer.Typer(rich_markup_mode="markdown")


def say_caution(experiment: Experiment) -> None:
    """Say on stderr what the run should not begin without being told."""
    from cosp.planning.caution import caution

    if text := caution(experiment):
        err.print(f"cosp: {text}", style="yellow", highlight=False, soft_wrap=True)


def print_paths(paths: list[Path]) -> None:
    for path in paths:
        print(path)


def print_notes(notes: Iterable[str]) -> None:
    """Print what a person should know of the data, one line each, beside the progress."""
    for note in notes:
        err.print(f"note: {note}", style="yellow", highlight=False, soft_wrap=True)
