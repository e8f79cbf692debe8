"""Results as text: dataclasses of numbers to CSV and back, to the last bit.

Lists are numbers with spaces between them; what is not known is empty.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, TypeVar

from cosp.errors import UserError
from cosp.files import replace_text

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
    """Write dataclasses of one ``kind``, a line each. What need not be known, and of no row is, has no column."""
    rows = list(rows)
    names = [
        field.name
        for field in fields(kind)  # type: ignore[arg-type]
        if field.default is not None or any(getattr(row, field.name) is not None for row in rows)
    ]
    replace_text(path, csv_text([names, *([_text(getattr(row, name)) for name in names] for row in rows)]))


def csv_text(lines: Iterable[Sequence[object]]) -> str:
    """Return ``lines`` as CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()


def read_rows(path: Path, kind: type[Row]) -> list[Row]:
    """Return what ``write_rows`` wrote, nothing if the file is not there; UserError if it is no such file.

    Columns with a default may be missing: an older cosp did not write them.
    """
    if not path.exists():
        return []
    parsers = {field.name: PARSERS[str(field.type)] for field in fields(kind)}  # type: ignore[arg-type]
    needed = {field.name for field in fields(kind) if field.default is MISSING}  # type: ignore[arg-type]
    number = 1
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file, strict=True))
        names = rows[0] if rows else []
        if not needed <= set(names) <= set(parsers):
            raise ValueError("does not have the columns of this cosp")
        found = []
        for row in rows[1:]:
            number += 1
            if len(row) != len(names):
                raise ValueError(f"must have {len(names)} values, got {len(row)}")
            found.append(kind(**{name: parsers[name](text) for name, text in zip(names, row, strict=True)}))
        return found
    except (OSError, TypeError, ValueError, csv.Error) as error:
        raise UserError(f"{path}:{number}: {error}; remove it to build it from the runs") from None


def _text(value: Any) -> str:
    if value is None:
        return ""
    return " ".join(map(repr, value)) if isinstance(value, tuple) else value if isinstance(value, str) else repr(value)
