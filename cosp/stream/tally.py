"""What a stream's rows come to: for the whole fleet, by window, by board."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

Row = dict[str, Any]


@dataclass(kw_only=True)
class Right:
    """So many of so many; of those that nobody labelled it is not known."""

    right: int = 0
    samples: int = 0
    labelled: int = 0

    def add(self, right: int | None, samples: int) -> None:
        self.samples += samples
        if right is not None:
            self.right += right
            self.labelled += samples

    @property
    def share(self) -> float | None:
        return self.right / self.labelled if self.labelled else None


@dataclass(kw_only=True)
class BoardTally:
    """Of one board. ``sets`` it has taken, of which ``rollbacks`` were taken back; ``lost`` messages, either way.

    ``version`` is the set that it has by now.
    """

    client: int
    stream: Right = field(default_factory=Right)
    missed: int = 0
    chosen: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    energy_j: float = 0.0
    sets: int = 0
    rollbacks: int = 0
    lost: int = 0
    version: int = 0

    def as_json(self) -> Row:
        figures = {name: value for name, value in vars(self).items() if name != "stream"}
        return {**figures, "samples": self.stream.samples, "accuracy": self.stream.share}


class Tally:
    """Adds up rows as they come."""

    def __init__(self) -> None:
        self.boards: dict[int, BoardTally] = {}
        self.windows: dict[int, Right] = defaultdict(Right)
        self.stream = Right()
        self.counts: dict[str, int] = defaultdict(int)
        """Rows by kind."""
        self.virtual_s = 0.0
        self._on_trial: dict[int, set[int]] = defaultdict(set)
        """By version, the boards that have taken it."""

    @staticmethod
    def of(rows: Iterable[Row]) -> Tally:
        tally = Tally()
        for row in rows:
            tally.add(row)
        return tally

    def add(self, row: Row) -> None:
        kind = row["kind"]
        self.counts[kind] += 1
        self.virtual_s = max(self.virtual_s, row.get("virtual_s", 0.0))
        if kind == "client":
            self.boards[row["client"]] = BoardTally(client=row["client"])
        elif kind == "window":
            self._window(self.boards[row["client"]], row)
        elif kind == "download":
            self._download(self.boards[row["client"]], row)
        elif kind == "failed" and row["client"] is not None:
            self.boards[row["client"]].bytes_down += row["bytes_down"]
            self.boards[row["client"]].lost += 1
        elif kind == "rollback":
            for client in self._on_trial[row["version"]]:
                self.boards[client].rollbacks += 1

    def _window(self, board: BoardTally, row: Row) -> None:
        for right in (board.stream, self.windows[row["window"]], self.stream):
            right.add(row["right"], row["samples"])
        board.missed += row["missed"]
        board.chosen += row["chosen"]
        self._errand(board, row)

    def _download(self, board: BoardTally, row: Row) -> None:
        self._errand(board, row)
        if row["lost"] is None:
            board.sets += 1
            board.version = row["version"]
            self._on_trial[row["version"]].add(row["client"])

    def _errand(self, board: BoardTally, row: Row) -> None:
        board.bytes_up += row["bytes_up"]
        board.bytes_down += row["bytes_down"]
        board.energy_j += row["energy_j"]
        board.lost += row["lost"] is not None

    def metrics(self) -> Row:
        """Return the figures of the whole stream."""
        boards = [board for board in self.boards.values() if board.stream.samples]
        chosen, samples = sum(board.chosen for board in boards), self.stream.samples
        return {
            "stream_accuracy": self.stream.share,
            "worst_window_accuracy": _worst(self.windows.values()),
            "worst_board_accuracy": _worst(board.stream for board in boards),
            "samples": samples,
            "missed": sum(board.missed for board in self.boards.values()),
            "uploaded": chosen,
            "uploaded_share": chosen / samples if samples else 0.0,
            "bytes_up": sum(board.bytes_up for board in self.boards.values()),
            "bytes_down": sum(board.bytes_down for board in self.boards.values()),
            "energy_j": sum(board.energy_j for board in self.boards.values()),
            "sets": self.counts["set"],
            "refused": self.counts["refused"],
            "rollbacks": self.counts["rollback"],
            "lost": sum(board.lost for board in self.boards.values()),
            "virtual_time_s": self.virtual_s,
            "boards": [board.as_json() for board in self.boards.values()],
        }


def _worst(parts: Iterable[Right]) -> float | None:
    return min((part.share for part in parts if part.share is not None), default=None)
