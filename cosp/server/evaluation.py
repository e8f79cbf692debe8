"""From prediction counts to what a run reports of its global model."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cosp.submodel.slicing import State

Counts = tuple[NDArray[np.int64], NDArray[np.float64]]
"""Confusion counts (exits + 1, classes, classes) [which, true, predicted] and summed losses (exits + 1).

The last of each is the mean of the exits' probabilities.
"""

CountPredictions = Callable[[State, str], Counts]
"""Count the predictions of a model (global tensors) on the server's split "test" or "validation"."""


@dataclass(frozen=True)
class Evaluation:
    """Global accuracy, mean loss and macro F1 of every exit, shallow to deep; accuracy of their mean probabilities; and
    the exit that validation data prefers, ties to the deeper. All are of test data but ``validation_accuracy``.
    """

    accuracy: list[float]
    loss: list[float | None]
    """None where it is NaN or infinite: of a model that has diverged."""
    macro_f1: list[float]
    mean_accuracy: float
    chosen_exit: int
    chosen_accuracy: float
    validation_accuracy: list[float]
    backdoor: float | None = None
    """Share of test samples of other classes that the chosen exit takes for a backdoor's class once they bear its
    trigger; None where the fleet has no backdoor.
    """

    def as_row(self) -> dict[str, Any]:
        row = asdict(self)
        if self.backdoor is None:
            del row["backdoor"]
        return row


def evaluate(model: State, count: CountPredictions, backdoor: int | None = None) -> Evaluation:
    """Evaluate ``model`` on the test split; the validation split chooses the exit. ``backdoor``: to what class one of
    the fleet leads.
    """
    confusion, losses = count(model, "test")
    validation, _ = count(model, "validation")
    accuracy = [accuracy_of(c) for c in confusion]
    preferred = [accuracy_of(c) for c in validation[:-1]]
    chosen = max(range(len(preferred)), key=lambda i: (preferred[i], i))
    return Evaluation(
        accuracy=accuracy[:-1],
        loss=[_finite(loss / c.sum()) for loss, c in zip(losses[:-1], confusion[:-1], strict=True)],
        macro_f1=[macro_f1(c) for c in confusion[:-1]],
        mean_accuracy=accuracy[-1],
        chosen_exit=chosen,
        chosen_accuracy=accuracy[chosen],
        validation_accuracy=preferred,
        backdoor=None if backdoor is None else _taken_for(count(model, "triggered")[0][chosen], backdoor),
    )


class Judge:
    """Judges each version once; ``count`` None judges none (a dry run)."""

    def __init__(self, count: CountPredictions | None, backdoor: int | None = None) -> None:
        self._count = count
        self._backdoor = backdoor
        self._last: tuple[int, Evaluation] | None = None

    def judged(self, version: int, model: State) -> Evaluation | None:
        """Return the scores of ``version``, whose weights are ``model``."""
        if self._count is None:
            return None
        if self._last is None or self._last[0] != version:
            self._last = version, evaluate(model, self._count, self._backdoor)
        return self._last[1]


def _finite(loss: float) -> float | None:
    """Return a loss as a row holds it."""
    return float(loss) if math.isfinite(loss) else None


def _taken_for(confusion: NDArray[np.int64], target: int) -> float:
    return float(confusion[:, target].sum() / max(1, confusion.sum()))


def accuracy_of(confusion: NDArray[np.int64]) -> float:
    return float(np.trace(confusion) / confusion.sum())


def macro_f1(confusion: NDArray[np.int64]) -> float:
    """Return the mean over classes of 2 TP / (2 TP + FP + FN); a class never seen nor predicted counts 0."""
    hits = np.diagonal(confusion)
    either = confusion.sum(0) + confusion.sum(1)
    return float(np.mean(2 * hits / np.maximum(either, 1)))
