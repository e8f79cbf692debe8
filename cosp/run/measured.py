"""What boards are by the steps that they train: profiles that get better while a run goes on."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from cosp.board.correction import FEWEST, Observed, corrected, slowness
from cosp.fleet.board import Board
from cosp.fleet.cost import step_s
from cosp.fleet.device_file import device_yaml
from cosp.fleet.introduction import Budget, Introduction
from cosp.fleet.speed import speed_of
from cosp.methods.pricing import work_of
from cosp.task.task import Task

Row = dict[str, Any]

RECENT = 9
"""Tasks of a board that say how fast it is now."""
NEWS = 0.1
"""Share by which a board's speed must differ from what was known of it before its plans follow."""
FASTEST = 10.0
"""Times as fast as its device file says that a board may be found to be: no file is as wrong as that."""


class Measured:
    """Compares what tasks take with what the fleet's ``boards``, clients 0, 1, ..., were said to take."""

    def __init__(self, boards: Sequence[Board], *, plans_follow: bool) -> None:
        self._boards = boards
        self._plans_follow = plans_follow
        self._seen: dict[int, deque[Observed]] = defaultdict(lambda: deque(maxlen=RECENT))

    def observe(self, client: Introduction, task: Task, row: Row) -> Budget | None:
        """Take note of a task's row; return what ``client`` can afford at its measured speed if plans should follow.

        Rows of simulated boards, which measure nothing, and of scoring, which has no training steps, say nothing.
        """
        measured_s = row.get("wall_step_s")
        if not measured_s or client.client >= len(self._boards):
            return None
        board = self._boards[client.client]
        seen = self._seen[client.client]
        predicted_s = predicted_step_s(task, board, samples=row["samples"])
        seen.append(Observed(predicted_s=predicted_s, measured_s=max(measured_s, predicted_s / FASTEST)))
        known = client.speed
        if not self._plans_follow or known is None or len(seen) < FEWEST:
            return None
        speed = replace(speed_of(board), slowdown=board.slowdown * slowness(seen))
        return replace(client.budget, speed=speed) if abs(speed.slowdown / known.slowdown - 1) > NEWS else None

    def device_files(self, run: str) -> Iterator[tuple[int, str]]:
        """Yield a client and the device file of its board, corrected, for all of whom enough has been seen."""
        for client, seen in sorted(self._seen.items()):
            if len(seen) >= FEWEST:
                yield client, device_yaml(corrected(self._boards[client].profile, seen), measured_in=run)


def predicted_step_s(task: Task, board: Board, *, samples: int) -> float:
    """Return the seconds of one training step of ``task`` on ``board``."""
    return step_s(board.profile, work_of(task, samples=samples, test_samples=0)) * board.slowdown
