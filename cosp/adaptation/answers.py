"""What a board answered in a window, as figures."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

FLOOR = 1e-12


@dataclass(frozen=True, eq=False)
class Answers:
    """``logits`` (samples, exits, classes) of all exits, of which ``exit`` answers; ``rows`` of the samples among all
    samples of the stream.
    """

    logits: np.ndarray
    exit: int
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.logits)

    @property
    def classes(self) -> int:
        return int(self.logits.shape[-1])

    @cached_property
    def probabilities(self) -> np.ndarray:
        """Of every exit, (samples, exits, classes)."""
        return softmax(self.logits)

    @cached_property
    def predicted(self) -> np.ndarray:
        found: np.ndarray = self.logits[:, self.exit].argmax(-1)
        return found

    @cached_property
    def uncertainty(self) -> np.ndarray:
        """Entropy of the exit that answers, as a share of the most there can be, ln C."""
        found: np.ndarray = entropy(self.probabilities[:, self.exit]) / np.log(self.classes)
        return found


def softmax(logits: np.ndarray) -> np.ndarray:
    exact = logits.astype(np.float64)
    risen = np.exp(exact - exact.max(-1, keepdims=True))
    found: np.ndarray = risen / risen.sum(-1, keepdims=True)
    return found


def entropy(probabilities: np.ndarray) -> np.ndarray:
    """Return -sum p ln p over the last dimension."""
    found: np.ndarray = -(probabilities * np.log(np.maximum(probabilities, FLOOR))).sum(-1)
    return found
