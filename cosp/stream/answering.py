"""Have a pool answer what came to a board, by the sets that the board had meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from cosp.adaptation.answers import Answers
from cosp.run.evaluation import CHUNK, FIRST
from cosp.run.pool import Pool
from cosp.server.evaluation import accuracy_of
from cosp.stream.fitting import SPLIT
from cosp.stream.seat import Piece, Seat
from cosp.submodel.shape import TransformerShape
from cosp.task.task import EVALUATION_BATCH, Task
from cosp.task.training import TrainSettings


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a board is asked about at ``until_s``: what came since ``since_s`` but for the ``missed``, by now answered
    with ``version``.
    """

    asks: Asks
    seat: Seat
    pieces: Sequence[Piece]
    missed: int
    since_s: float
    until_s: float
    version: int
    jobs: Sequence[tuple[Task, Any]]

    def answers(self) -> Answers | None:
        """Wait for the answers; None if nothing came."""
        if not self.jobs:
            return None
        found, rows = [], []
        for task, job in self.jobs:
            _, vector = self.asks.pool.result(job)
            found.append(vector.numpy().reshape(task.last - task.first, -1, task.shape.classes))
            rows.append(np.arange(task.first, task.last))
        return Answers(logits=np.concatenate(found), exit=self.seat.exit, rows=np.concatenate(rows))

    def task(self) -> Task:
        """Return all of it as one task, as the board is taken to do it."""
        return self.asks.task(self.seat, 0, sum(piece.last - piece.first for piece in self.pieces))


@dataclass(frozen=True, kw_only=True)
class Asks:
    """Boards answer ``batch`` samples at a time; the pool as many as it likes, which changes no answer by more than
    rounding.
    """

    pool: Pool
    shape: TransformerShape
    seed: int
    batch: int

    def ask(self, seat: Seat, now_s: float) -> Asked:
        """Have answered what came to ``seat`` by ``now_s``."""
        version = seat.version
        pieces, missed, since_s = seat.due(now_s)
        jobs = [
            (task, self._submit(task, piece.by.weights, now_s)) for piece in pieces for task in self._tasks(seat, piece)
        ]
        return Asked(
            asks=self, seat=seat, pieces=pieces, missed=missed, since_s=since_s, until_s=now_s, version=version,
            jobs=jobs,
        )  # fmt: skip

    def judge(self, seat: Seat, split: str, count: int) -> Callable[[], float]:
        """Have what ``seat`` has now judged on ``count`` samples of ``split``; return what waits for its accuracy."""
        exits = len(self.shape.exits_within(seat.plan.depth))
        jobs = [
            self._submit(replace(self.task(seat, start, min(start + CHUNK, count)), kind="evaluate", split=split),
                         seat.answering[-1].weights, FIRST)
            for start in range(0, count, CHUNK)
        ]  # fmt: skip

        def accuracy() -> float:
            found = [self.pool.result(job)[1].numpy().reshape(exits + 1, -1) for job in jobs]
            counts = np.sum(found, axis=0)[seat.exit].reshape(self.shape.classes, self.shape.classes)
            return accuracy_of(counts)

        return accuracy

    def nothing(self, seat: Seat) -> Task:
        """Return the task of a board that answers nothing."""
        return self.task(seat, 0, 0)

    def task(self, seat: Seat, first: int, last: int) -> Task:
        return Task(
            "serve", seat.client, seat.version, seat.turn, self.seed, self.shape, seat.plan,
            training=TrainSettings(batch_size=self.batch), split=SPLIT, first=first, last=last,
        )  # fmt: skip

    def _tasks(self, seat: Seat, piece: Piece) -> list[Task]:
        starts = range(piece.first, piece.last, EVALUATION_BATCH)
        ends = (min(start + EVALUATION_BATCH, piece.last) for start in starts)
        return [self.task(seat, seat.first + start, seat.first + end) for start, end in zip(starts, ends, strict=True)]

    def _submit(self, task: Task, weights: Tensor, now_s: float) -> Any:
        def fill(slot: Tensor) -> None:
            slot.copy_(weights)

        return self.pool.submit(task, weights.numel(), fill, priority=now_s, source=weights)
