"""Tables of texts as people have them: ``.csv``, ``.tsv``, ``.jsonl`` and ``.parquet``, also compressed.

All are UTF-8. A ``.csv`` quotes as RFC 4180 says, a ``.tsv`` does not quote. A folder has ``train.*``, ``test.*`` and
``validation.*`` in it, or shards of them.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import re
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cosp.errors import DataError
from cosp.images.faults import first_line
from cosp.images.split_names import ROLES

UNPACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.decompress,
    ".xz": lzma.decompress,
    ".bz2": bz2.decompress,
}
DELIMITED = {".csv": ",", ".tsv": "\t"}
JSON_LINES = (".jsonl", ".ndjson")
SUFFIXES = (*DELIMITED, *JSON_LINES, ".parquet")
SHARD = re.compile(r"[-_]\d+-of-\d+")


@dataclass(frozen=True, kw_only=True)
class Table:
    """Columns of one file, all as long; ``lines[row]`` is where in the file a row begins, for messages.

    ``delimited``: it has a header line, or should have.
    """

    columns: Mapping[str, Sequence[Any]]
    origin: str
    lines: Sequence[int] | None = None
    delimited: bool = False

    def place(self, row: int) -> str:
        """Return where ``row`` stands, as a person would look it up."""
        return f"row {row + 1}" if self.lines is None else f"line {self.lines[row]}"


def is_table(path: Path) -> bool:
    """Whether the file's name says that it is one of the kinds read here."""
    return _kind(path) in SUFFIXES


def read_table(path: Path, names: Sequence[str] | None = None) -> Table:
    """Read all of a file; DataError names the line that is not as it must be.

    ``names`` of the columns where the file has no header line.
    """
    kind = _kind(path)
    if names is not None and kind not in DELIMITED:
        raise DataError(f"data.columns: {path}: only .csv and .tsv may lack their columns' names: remove the key")
    if kind == ".parquet":
        return _parquet(path)
    text = _text(path)
    return _delimited(text, path, DELIMITED[kind], names) if kind in DELIMITED else _json_lines(text, path)


def split_files(folder: Path) -> dict[str, list[Path]]:
    """Return the files of each split in ``folder``, by role: the one of that name, or shards of it.

    A longer name that begins so, ``train_10k``, stands for a split that has no other file.
    """
    files = sorted(path for path in folder.iterdir() if path.is_file() and is_table(path))
    found = {role: _split(files, role, names) for role, names in ROLES.items()}
    return {role: paths for role, paths in found.items() if paths}


def _kind(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    return "".join(suffixes[-1:] if not suffixes or suffixes[-1] not in UNPACK else suffixes[-2:-1])


def _stem(path: Path) -> str:
    """The name without what says its kind: ``train-00000-of-00001`` or ``test``."""
    stem = path.name if path.suffix.lower() not in UNPACK else path.stem
    return Path(stem).stem


def _split(files: Sequence[Path], role: str, names: Sequence[str]) -> list[Path]:
    """DataError if it is not plain which file is meant."""
    begins = re.compile(rf"(?:{'|'.join(names)})(?P<more>[-_.].*)?", re.IGNORECASE)
    named = [(path, match) for path in files if (match := begins.fullmatch(_stem(path)))]
    found = [path for path, match in named if not match["more"]] or [path for path, _ in named]
    shards = all(match["more"] and SHARD.fullmatch(match["more"]) for _, match in named)
    if len(found) > 1 and not shards:
        listed = ", ".join(path.name for path in found)
        raise DataError(f"{found[0].parent}: which of {listed} is the {role} split? leave one of them there")
    return found


def _text(path: Path) -> str:
    raw = _bytes(path)
    try:
        return raw.decode("utf-8-sig")  # spreadsheets write a mark at the beginning
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}: line {line} is not UTF-8 (byte {raw[error.start]:#04x}); convert the file, e.g. "
            f"iconv -f LATIN1 -t UTF-8"
        ) from None


def _bytes(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
        unpack = UNPACK.get(path.suffix.lower())
        return raw if unpack is None else unpack(raw)
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({first_line(error)}); fetch it again") from error


def _delimited(text: str, path: Path, delimiter: str, names: Sequence[str] | None) -> Table:
    header: Sequence[str] | None = names
    rows: list[list[str]] = []
    lines: list[int] = []
    for line, row in _rows(text, path, delimiter):
        if header is None:
            header = row
        elif len(row) != len(header):
            what = "data.columns has" if names is not None else "the header has"
            raise DataError(
                f"{path}: line {line} has {len(row)} fields, {what} {len(header)}; mend the line (a field with "
                f"{'a tab or a line break cannot stand in .tsv' if delimiter != ',' else 'a comma stands in quotes'})"
            )
        else:
            rows.append(row)
            lines.append(line)
    if header is None or not rows:
        raise DataError(f"{path}: there must be at least one row" + (" below the header line" if header else ""))
    return Table(columns=_columns(header, rows, path), origin=str(path), lines=lines, delimited=True)


def _columns(header: Sequence[str], rows: Sequence[Sequence[str]], path: Path) -> dict[str, Sequence[str]]:
    twice = next((name for name in header if list(header).count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{path}: column {twice!r} is there twice; rename one of them")
    return dict(zip(header, zip(*rows, strict=True), strict=True))


def _rows(text: str, path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Rows with the number of the line that each begins in; empty lines are none."""
    csv.field_size_limit(sys.maxsize)  # 131,072 letters else: a long mail has more
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if delimiter == "," else csv.QUOTE_NONE
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting, strict=True)
    begins = 1
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise DataError(
                f"{path}: line {begins} cannot be read as {path.name} should be ({error}); mend it"
            ) from None
        if row is None:
            return
        if row:
            yield begins, row
        begins = reader.line_num + 1


def _json_lines(text: str, path: Path) -> Table:
    rows: list[dict[str, Any]] = []
    lines: list[int] = []
    for line, part in enumerate(text.split("\n"), 1):  # not splitlines: JSON may hold other line breaks as they are
        if not part.strip():
            continue
        try:
            row = json.loads(part)
        except ValueError as error:
            raise DataError(f"{path}: line {line} is not JSON ({error}); each line is one object") from None
        if not isinstance(row, dict):
            raise DataError(f"{path}: line {line} must be a JSON object of columns, got {part.strip():.40}")
        rows.append(row)
        lines.append(line)
    if not rows:
        raise DataError(f"{path}: there must be at least one row")
    names = {name: None for row in rows for name in row}
    return Table(columns={name: [row.get(name) for row in rows] for name in names}, origin=str(path), lines=lines)


def _parquet(path: Path) -> Table:
    import pyarrow.parquet  # type: ignore[import-untyped]

    raw = _bytes(path)
    try:
        found = pyarrow.parquet.read_table(pyarrow.BufferReader(raw))
    except Exception as error:  # pyarrow's own errors, and OSError
        raise DataError(f"{path}: cannot be read as parquet ({first_line(error)}); fetch it again") from error
    if not found.num_rows:
        raise DataError(f"{path}: there must be at least one row")
    return Table(columns={name: found[name].to_pylist() for name in found.column_names}, origin=str(path))
