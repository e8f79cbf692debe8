"""Follow a file of rows that grows, that may be cut back when its run is resumed, and whose last line may be half."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Row = dict[str, Any]

MOST_BYTES = 8_000_000
"""Read at a time, so that a page on a long run shows how far it is."""
MARK_BYTES = 256
"""What was read last; if it is another by now, the rows were cut back and written anew."""


@dataclass
class News:
    """What :meth:`Tail.read` found. ``anew``: forget all earlier rows, these are the first."""

    rows: list[Row] = field(default_factory=list)
    anew: bool = False
    left_bytes: int = 0


class Tail:
    """Reads the whole rows of ``path`` that came since it last looked. ``unreadable`` counts lines that are no rows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_bytes = 0
        self._mark = b""
        self.unreadable = 0

    def read(self, most_bytes: int = MOST_BYTES) -> News:
        try:
            with self._path.open("rb") as file:
                anew = self._cut(file.seek(0, 2), file)
                file.seek(self._read_bytes)
                data = file.read(most_bytes)
                while data and b"\n" not in data and (more := file.read(most_bytes)):  # one very long row
                    data += more
                left_bytes = file.seek(0, 2) - self._read_bytes
        except OSError:  # not begun yet, or its folder is gone
            anew = self._read_bytes > 0
            self._forget()
            return News(anew=anew)
        whole = data[: data.rfind(b"\n") + 1]
        self._read_bytes += len(whole)
        self._mark = (self._mark + whole)[-MARK_BYTES:]
        return News(self._parse(whole), anew, left_bytes - len(whole))

    def _cut(self, size_bytes: int, file: Any) -> bool:
        """Begin anew if the file no longer holds what was read of it."""
        if self._read_bytes:
            file.seek(max(0, self._read_bytes - len(self._mark)))
            if size_bytes < self._read_bytes or file.read(len(self._mark)) != self._mark:
                self._forget()
                return True
        return False

    def _forget(self) -> None:
        self._read_bytes, self._mark, self.unreadable = 0, b"", 0

    def _parse(self, lines: bytes) -> list[Row]:
        rows = []
        for line in lines.splitlines():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            if isinstance(row, dict) and isinstance(row.get("kind"), str):
                rows.append(row)
            else:
                self.unreadable += 1
        return rows
