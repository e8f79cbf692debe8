"""What the server makes of the samples that boards send: a school whose pupils are the boards' submodels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from cosp.adaptation.batches import Batch, joined
from cosp.adaptation.kept import Keep, Take
from cosp.adaptation.teach import AdaptSettings, Lesson, School
from cosp.adaptation.upward import Report
from cosp.seeds import numpy_stream
from cosp.submodel.plan import SubmodelPlan
from cosp.submodel.shape import TransformerShape
from cosp.submodel.slicing import State

Row = dict[str, Any]


class SchoolLearner:
    """Learns as ``settings`` say for what ``clients`` hold of ``plans``; ``clean`` are samples with labels that the
    server holds.
    """

    def __init__(
        self,
        settings: AdaptSettings,
        shape: TransformerShape,
        model: State,
        plans: Mapping[int, SubmodelPlan],
        clients: Sequence[int],
        *,
        clean: Batch,
        seed: int,
        group: int,
    ) -> None:
        self._settings, self._plan_of = settings, plans
        self.teach(clients)
        self._first = model
        self._school = School(shape, model, settings, clean if settings.clean_drop is not None else None)
        self._waiting: list[Batch] = []
        self._seed, self._group = seed, group
        self._steps = 0
        self._new = False

    def teach(self, clients: Sequence[int]) -> None:
        """Learn for what these boards hold from now on."""
        self._plans = list(dict.fromkeys(self._plan_of[client] for client in clients))

    def go_back(self, model: State) -> None:
        """Forget what was learned since ``model``."""
        self._school.restore(model)
        self._new = False

    def model(self) -> State | None:
        """Return the model by now; None if it is as it was."""
        if not self._new:
            return None
        self._new = False
        return {**self._first, **self._school.snapshot()}

    def state(self, keep: Keep) -> Row:
        """Return where it stands, as JSON values."""
        return {
            "school": self._school.state_of(keep),
            "waiting": [batch.state_of(keep) for batch in self._waiting],
            "steps": self._steps,
            "new": self._new,
        }

    def restore(self, state: Row, take: Take) -> None:
        """Undo ``state``."""
        self._school.go_on_from(state["school"], take)
        self._waiting = [Batch.of_state(batch, take) for batch in state["waiting"]]
        self._steps, self._new = int(state["steps"]), bool(state["new"])

    def take(self, client: int, report: Report, batches: Sequence[Batch]) -> list[Row]:
        """Take samples, and learn once there is a batch of a form."""
        if self._settings.rule == "none":
            return []
        self._waiting += batches
        return [self._learned(batch) for batch in self._whole_batches()]

    def _whole_batches(self) -> Iterator[Batch]:
        """Yield as many batches as there are by now; what is left waits."""
        size, waiting = self._settings.batch, joined(self._waiting)
        self._waiting = []
        for found in waiting:
            whole = len(found.x) // size * size
            for start in range(0, whole, size):
                yield found.rows(torch.arange(start, start + size))
            if whole < len(found.x):
                self._waiting.append(found.rows(torch.arange(whole, len(found.x))))

    def _learned(self, batch: Batch) -> Row:
        self._steps += 1
        rng = numpy_stream(self._seed, "replay", self._group, self._steps)
        lesson = self._school.learn(batch, self._plans, rng)
        if lesson is None:
            return {"kind": "step", "samples": 0, "loss": None, "entropy": None}
        self._new |= lesson.undone is None
        return _row(lesson)


def _row(lesson: Lesson) -> Row:
    loss, entropy = (value if math.isfinite(value) else None for value in (lesson.loss, lesson.entropy))
    figures = {"samples": lesson.samples, "loss": loss, "entropy": entropy}
    if lesson.undone is None:
        return {"kind": "step", **figures}
    return {"kind": "refused", **figures, "reason": lesson.undone}
