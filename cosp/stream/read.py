"""A stream's directory -> its rows; also of one that was killed half-way."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cosp.errors import UserError
from cosp.stream.tally import Tally

Row = dict[str, Any]
KIND = "stream"
"""Of the first row."""
_GIVE = "give the --out folder of a `cosp adapt`"


@dataclass(frozen=True, kw_only=True)
class StreamRun:
    """``metrics`` None: it was stopped before its end."""

    folder: Path
    rows: tuple[Row, ...]
    metrics: Row | None
    config: str | None

    @property
    def header(self) -> Row:
        return self.rows[0]

    @cached_property
    def tally(self) -> Tally:
        return Tally.of(self.rows)

    def of(self, kind: str) -> list[Row]:
        return [row for row in self.rows if row["kind"] == kind]


def is_stream(folder: Path) -> bool:
    """Say whether a directory holds a stream's rows, and not a training run's."""
    try:
        with (folder / "rows.jsonl").open(encoding="utf-8") as file:
            first = json.loads(file.readline())
    except (OSError, ValueError):
        return False
    return isinstance(first, dict) and first.get("kind") == KIND


def read_stream(folder: Path) -> StreamRun:
    """Read what ``cosp adapt`` wrote; UserError if that is not there or damaged. A last row that is cut is left out."""
    path = folder / "rows.jsonl"
    rows: list[Row] = []
    lines = _text(path).splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            if number < len(lines):
                raise UserError(f"{path}:{number}: not JSON ({error}); {_GIVE}") from None
    if not rows or rows[0].get("kind") != KIND:
        raise UserError(f"{path}: row 1 must be of kind {KIND!r}; {_GIVE}")
    metrics = folder / "metrics.json"
    config = folder / "config.yaml"
    run = StreamRun(
        folder=folder,
        rows=tuple(rows),
        metrics=json.loads(_text(metrics)) if metrics.exists() else None,
        config=_text(config) if config.exists() else None,
    )
    try:
        _ = run.tally
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}: a row lacks what its kind has ({error!r}); run cosp adapt anew") from None
    return run


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); {_GIVE}") from None
