"""The rows of a stream as they come: written, added up, shown; and again up to where one goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from cosp.run.directory import RunDirectory
from cosp.stream.checkpoint import Checkpoint
from cosp.stream.tally import Tally

Row = dict[str, Any]


class Told:
    """``tally`` is what all rows come to."""

    def __init__(self, directory: RunDirectory, on_row: Callable[[Row], None]) -> None:
        self.tally = Tally()
        self._directory, self._on_row = directory, on_row

    def begin(self, opening: Sequence[Row], saved: Checkpoint | None) -> None:
        """Write the ``opening`` rows; of a stream that goes on forget those after its checkpoint, and show the rest.

        UserError if it did not open so.
        """
        if saved is None:
            self._directory.cut_rows(0)
            for row in opening:
                self.record(row)
            return
        self._directory.check_begun(opening, saved.rows_bytes)
        self._directory.cut_rows(saved.rows_bytes)
        for line in (self._directory.folder / "rows.jsonl").read_text(encoding="utf-8").splitlines():
            self._see(json.loads(line))

    def record(self, row: Row) -> None:
        self._directory.write_row(row)
        self._see(row)

    def _see(self, row: Row) -> None:
        self.tally.add(row)
        self._on_row(row)
