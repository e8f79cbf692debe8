"""From tables with named columns to a source of texts: texts checked, labels made numbers of classes.

Classes are the labels that occur in the training data: whole numbers in rising order, anything else in the order of
its letters; or those that a data set names itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cosp.data.columns import OF_TEXTS, Columns
from cosp.data.images import Labelled, Source
from cosp.data.posts import subject_and_body
from cosp.data.raw_texts import raw_texts
from cosp.data.text_files import Table, read_table, split_files
from cosp.errors import DataError
from cosp.files import shown_name

SHUFFLE_SEED = 0  # tables are often sorted by class
_NUMBER = re.compile(r"[+-]?\d+", re.ASCII)

Label = str | int


@dataclass(frozen=True, kw_only=True)
class _Part:
    """What is read of one table, in its order; ``written`` are the labels before numbers in them were read as such."""

    table: Table
    text: Sequence[str]
    pair: Sequence[str]
    labels: Sequence[Label]
    written: Sequence[Any]
    clients: Sequence[Label] | None


def read_text_file(path: Path, *, name: str, columns: Columns) -> Source:
    """One file without a test split of its own."""
    return text_source(name, {"train": [read_table(path, columns.names)]}, columns=columns)


def read_text_folder(folder: Path, *, name: str, columns: Columns) -> Source | None:
    """``train.*``, ``test.*`` and ``validation.*`` of a folder; None if it holds no tables that train."""
    files = split_files(folder)
    if "train" not in files:
        return None
    tables = {role: [read_table(path, columns.names) for path in paths] for role, paths in files.items()}
    return text_source(name, tables, columns=columns)


def text_source(
    name: str,
    tables: Mapping[str, Sequence[Table]],
    *,
    columns: Columns,
    classes: Mapping[Label, str] | None = None,
) -> Source:
    """Return the texts of the tables of each split, shuffled once for all; DataError names what is missing where.

    ``classes`` names the labels, in order, where the data set says which there are.
    """
    splits = {
        role: [_part(table, columns if role == "train" else replace(columns, client=None)) for table in found]
        for role, found in tables.items()
    }
    if not all(isinstance(label, int) for parts in splits.values() for part in parts for label in part.labels):
        splits = {role: [_as_written(part) for part in parts] for role, parts in splits.items()}
    occurring = {label for part in splits["train"] for label in part.labels}
    known = classes or {label: str(label) for label in sorted(occurring)}
    numbers = {label: number for number, label in enumerate(known)}
    train = _labelled(splits["train"], numbers, otherwise=f"is none of {', '.join(map(str, known))}")
    learned = {label: numbers[label] for label in occurring}
    unseen = f"does not occur in the training data {train.origin}; add such texts there, or remove them here"
    others = {role: _labelled(parts, learned, otherwise=unseen) for role, parts in splits.items() if role != "train"}
    return Source(
        name=shown_name(name),
        classes=tuple(known.values()),
        train=train,
        test=others.get("test"),
        validation=others.get("validation"),
        columns=OF_TEXTS,
    )


def _part(table: Table, columns: Columns) -> _Part:
    clean: Callable[[str], str] = subject_and_body if columns.strip == "headers" else str
    name = columns.text or "text"
    text = _texts(table, "text", name, clean)
    empty = [row for row, value in enumerate(text) if not value.strip()]
    if empty:
        others = f" (and {len(empty) - 1} more)" if len(empty) > 1 else ""
        raise DataError(
            f"{table.origin}: {table.place(empty[0])} has no text in column {name!r}{others}; remove such rows"
        )
    label = columns.label or "label"
    written = _column(table, "label", label)
    return _Part(
        table=table,
        text=text,
        pair=() if columns.text_pair is None else _texts(table, "text_pair", columns.text_pair, clean),
        labels=_labels(written, table, label, "label"),
        written=written,
        clients=None if columns.client is None else _clients(table, columns.client),
    )


def _column(table: Table, key: str, name: str) -> Sequence[Any]:
    if name not in table.columns:
        nameless = ", or data.columns to the columns' names if it has no header line" if table.delimited else ""
        raise DataError(
            f"data.{key}: {table.origin} has no column {name!r}; it has {', '.join(map(repr, table.columns))}: set "
            f"data.{key} to one of them{nameless}"
        )
    return table.columns[name]


def _texts(table: Table, key: str, name: str, clean: Callable[[str], str]) -> list[str]:
    """The texts of a column; one that is missing is empty."""
    found = []
    for row, value in enumerate(_column(table, key, name)):
        if not (value is None or isinstance(value, str)):
            raise DataError(
                f"data.{key}: {table.origin}: {table.place(row)}: column {name!r} holds {value!r:.40}, which is no text"
            )
        found.append(clean(value or ""))
    return found


def _labels(values: Sequence[Any], table: Table, column: str, what: str) -> list[Label]:
    """Whole numbers or names; DataError if one is missing or neither."""
    return [_label(value, f"{table.origin}: {table.place(row)}", column, what) for row, value in enumerate(values)]


def _label(value: Any, where: str, column: str, what: str) -> Label:
    if isinstance(value, float) and value.is_integer():  # whole numbers among which one is missing are kept so
        value = int(value)
    if value is None or value != value or (isinstance(value, str) and not value.strip()):
        raise DataError(f"{where} has no {what} in column {column!r}; give it one, or remove the row")
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, str):
        return int(value) if _NUMBER.fullmatch(value) else value
    if isinstance(value, int):
        return value
    raise DataError(f"{where}: a {what} must be a whole number or a name, column {column!r} holds {value!r:.40}")


def _clients(table: Table, name: str) -> list[Label]:
    return _labels(_column(table, "partition.column", name), table, name, "client")


def _as_written(part: _Part) -> _Part:
    """The same with texts as labels, which all are where one is none of a number."""
    return replace(part, labels=[str(value) for value in part.written])


def _labelled(parts: Sequence[_Part], numbers: Mapping[Label, int], *, otherwise: str) -> Labelled:
    """All parts as one split; DataError says ``otherwise`` of a label without a number."""
    for part in parts:
        row = next((row for row, label in enumerate(part.labels) if label not in numbers), None)
        if row is not None:
            raise DataError(f"{part.table.origin}: {part.table.place(row)}: label {part.labels[row]!r} {otherwise}")
    y: NDArray[np.int64] = np.array([numbers[label] for part in parts for label in part.labels], np.int64)
    pair = [text for part in parts for text in part.pair]
    x = raw_texts([text for part in parts for text in part.text], pair or None)
    clients = [client for part in parts for client in part.clients or ()]
    found = Labelled(x=x, y=y, origin=parts[0].table.origin, clients=np.array(clients) if clients else None)
    return found.rows(np.random.default_rng(SHUFFLE_SEED).permutation(len(y)))
