"""The rows of ``cosp plan`` in a terminal of 80 columns: two lines a board, three with a target round time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

from rich import box
from rich.table import Table

from cosp.console import UNITS, bytes_text, seconds
from cosp.data.natural import brief

Row = dict[str, Any]

HEAD: tuple[tuple[str, Literal["left", "right"]], ...] = (
    ("", "left"),
    ("board\nmode, link", "left"),
    ("parameters\nblocks x\nheads/hidden", "right"),
    ("memory\nof limit", "right"),
    ("round\nfrom - to", "right"),
    ("energy\ntraffic", "right"),
    ("bound by\nof keep", "right"),
)


def plan_table(rows: Sequence[Row], title: str) -> Table:
    """Return the table of ``plan_rows``."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, padding=0)
    for name, justify in HEAD:
        name += "\nof target" if name.startswith("round") and rows[0]["target_round_s"] else ""
        table.add_column(name, justify=justify, no_wrap=True)
    for row in rows:
        table.add_row(*("\n".join(lines) for lines in _cells(row)))
    return table


def _cells(row: Row) -> Iterable[Iterable[str]]:
    """Return the lines of each cell."""
    used = row["used"]
    yield [str(row["client"])]
    yield row["board"], f"{row['mode']} {row['link']}", *([f"of {brief(row['data_of'])}"] if "data_of" in row else [])
    words = [] if row["words"] is None else [f"{row['words']:,} words"]
    yield (
        f"{count_text(row['parameters'])} {row['share']:.0%}",
        f"{row['depth']} x {row['heads']}/{row['hidden']}",
        *words,
    )
    yield bytes_text(row["memory_bytes"]), percent(used["memory"])
    target = [] if used["time"] is None else [percent(used["time"])]
    yield seconds(row["task_s"]), span_text(*row["task_range_s"]), *target
    yield joules(row["energy_j"]), bytes_text(row["bytes_down"] + row["bytes_up"])
    yield _bound(row)


def _bound(row: Row) -> Iterable[str]:
    """Name what binds; how far memory and time are used stands in their own columns."""
    if row["binding"] == ["keep"]:
        return f"keep {row['keep']:g}", percent(row["used"]["keep"])
    return row["binding"] or ["nothing"]


def count_text(count: int) -> str:
    """Return a count with three digits: ``205k``, ``85.1M``."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g}{unit}"
    return str(count)


def percent(share: float) -> str:
    """Return a share of a limit, with a mark where it is overrun: ``87 %``, ``0.2 %``, ``131 % !``."""
    text = f"{share:.0%}" if share >= 0.0995 else f"{share:.1%}"
    return text.replace("%", " %") + (" !" if share > 1 else "")


def span_text(low_s: float, high_s: float) -> str:
    """Return two durations in the unit that suits the shorter: ``41 - 117 ms``."""
    size, unit = next(((size, unit) for size, unit in UNITS if low_s >= size), UNITS[-1])
    return " - ".join(_three_digits(value_s / size) for value_s in (low_s, high_s)) + f" {unit}"


def _three_digits(value: float) -> str:
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


def joules(value_j: float) -> str:
    """Return an energy with three digits: ``0.79 J``, ``12.3 kJ``."""
    return f"{value_j / 1e3:.3g} kJ" if value_j >= 1e3 else f"{value_j:.3g} J"
