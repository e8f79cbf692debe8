"""What a person gives to be classified: images, folders of them, texts, tables, arrays."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cosp.data.raw_texts import raw_texts
from cosp.data.text_files import is_table, read_table
from cosp.errors import UserError
from cosp.files import shown_name
from cosp.images.class_folders import SUFFIXES as IMAGES
from cosp.images.decoder import decoded
from cosp.predict.opened import Opened
from cosp.predict.prepared import prepared

STDIN = "-"


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """``names`` of what is classified, one each of the prepared samples ``x``."""

    names: tuple[str, ...]
    x: NDArray[Any]


def read_inputs(model: Opened, given: Sequence[str], *, text: str | None = None) -> Inputs:
    """Read what the command line names, in its order; UserError names what cannot be read.

    ``text``: the column of tables that holds texts; None takes the one that the model was trained on.
    """
    reader = {"images": _images, "texts": _texts, "series": _series}[model.facts.reading.kind]
    parts = []
    for word in given:
        path = Path(word)
        if path.suffix == ".npz":
            parts.append(_arrays(model, path))
        else:
            parts.extend(reader(model, word, text))
    if not any(len(part.names) for part in parts):
        raise UserError(f"{', '.join(given)}: there is nothing to classify")
    return Inputs(names=tuple(n for part in parts for n in part.names), x=np.concatenate([part.x for part in parts]))


def _images(model: Opened, word: str, text: str | None) -> Iterator[Inputs]:
    path = Path(word)
    channels, height, width = model.facts.shape.sample_shape
    files = [path]
    if path.is_dir():
        files = sorted(f for f in path.rglob("*") if f.suffix.lower() in IMAGES and f.is_file())
        if not files:
            raise UserError(f"{path}: holds no images ({', '.join(sorted(IMAGES))})")
    for file in files:
        if not file.is_file():
            raise UserError(f"{file}: is no file; the model reads images, folders of them and .npz")
        pixels = decoded(file, (height, width, channels), origin=shown_name(str(file)))
        x = prepared(model, pixels[np.newaxis], origin=str(file), from_files=True)
        yield Inputs(names=(shown_name(str(file)),), x=x)


def _texts(model: Opened, word: str, text: str | None) -> Iterator[Inputs]:
    lines, pair, origin = _lines(model, word, text)
    if lines:
        x = prepared(model, raw_texts(lines, pair), origin=origin)
        yield Inputs(names=tuple(lines), x=x)


def _lines(model: Opened, word: str, column: str | None) -> tuple[list[str], list[str] | None, str]:
    """Return the texts that ``word`` is or names, their second texts, and where they are from."""
    path = Path(word)
    if word == STDIN:
        return [line for line in sys.stdin.read().splitlines() if line.strip()], None, "standard input"
    if not _is_file(path):
        return [word], None, repr(word)
    if is_table(path):
        return _table(model, path, column)
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as lines of text ({error})") from None
    return [line for line in content.splitlines() if line.strip()], None, str(path)


def _table(model: Opened, path: Path, column: str | None) -> tuple[list[str], list[str] | None, str]:
    said = model.facts.reading.columns
    table = read_table(path, said.get("columns"))
    wanted = column or said.get("text") or "text"
    second = said.get("text_pair")
    for name in filter(None, (wanted, second)):
        if name not in table.columns:
            raise UserError(
                f"--text: {path} has no column {name!r}; it has {', '.join(map(repr, table.columns))}: name one of them"
            )
    texts = [str(value or "") for value in table.columns[wanted]]
    pairs = [str(value or "") for value in table.columns[second]] if second else None
    return texts, pairs, str(path)


def _series(model: Opened, word: str, text: str | None) -> Iterator[Inputs]:
    """One series a file: a row of numbers a step, a header line or none."""
    path = Path(word)
    if not path.is_file():
        raise UserError(f"{path}: is no file; the model reads series, a .csv each (a row a step), or an .npz")
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.reader(file) if row]
        values = np.array(rows if _is_number(rows[0][0]) else rows[1:], np.float64)
    except (OSError, ValueError, IndexError) as error:
        raise UserError(f"{path}: must hold numbers, a row a step ({error})") from None
    yield Inputs(names=(str(path),), x=prepared(model, values[np.newaxis], origin=str(path)))


def _arrays(model: Opened, path: Path) -> Inputs:
    try:
        with np.load(path, allow_pickle=False) as file:
            x = file["x"]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: cannot be read ({error}); it must be an .npz that holds x") from None
    one_channel = {"images": 3, "series": 2}.get(model.facts.reading.kind)
    x = x[..., np.newaxis] if x.ndim == one_channel else x
    return Inputs(names=tuple(f"{path}[{i}]" for i in range(len(x))), x=prepared(model, x, origin=str(path)))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a text too long to be a name
        return False


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True
