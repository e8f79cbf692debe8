"""Results as text: dataclasses of numbers to CSV and back, to the last bit.

Lists are numbers with spaces between them; what is not known is empty.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from cosp.errors import UserError

Row = TypeVar("Row")

PARSERS: dict[str, Callable[[str], Any]] = {
    "str": str,
    "int": int,
    "float": float,
    "float | None": lambda text: float(text) if text else None,
    "tuple[int, ...]": lambda text: tuple(map(int, text.split())),
    "tuple[float, ...]": lambda text: tuple(map(float, text.split())),
}


def write_rows(path: Path, rows: Iterable[Any], kind: type[Row]) -> None:
    """Write dataclasses of one ``kind``, a line each."""
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([_text(getattr(row, name)) for name in names] for row in rows)


def read_rows(path: Path, kind: type[Row]) -> list[Row]:
    """Return what ``write_rows`` wrote, nothing if the file is not there; UserError if it is no such file."""
    if not path.exists():
        return []
    parsers = {field.name: PARSERS[str(field.type)] for field in fields(kind)}  # type: ignore[arg-type]
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if reader.fieldnames is None or set(reader.fieldnames) != set(parsers):
            raise UserError(f"{path}: does not have the columns of this cosp; remove it to build it from the runs")
        try:
            return [kind(**{name: parse(row[name]) for name, parse in parsers.items()}) for row in reader]
        except (TypeError, ValueError) as error:
            raise UserError(f"{path}:{reader.line_num}: {error}; remove the file to build it from the runs") from None


def _text(value: Any) -> str:
    if value is None:
        return ""
    return " ".join(map(repr, value)) if isinstance(value, tuple) else value if isinstance(value, str) else repr(value)
