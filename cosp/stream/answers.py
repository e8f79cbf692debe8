"""What a board answered in a window, as figures."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

FLOOR = 1e-12


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """``logits`` (samples, exits, classes) of all exits, of which ``exit`` answers; ``rows`` of the samples among all
    samples of the stream.
    """

    logits: NDArray[np.float32]
    exit: int
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.logits)

    @property
    def classes(self) -> int:
        return int(self.logits.shape[-1])

    @cached_property
    def probabilities(self) -> NDArray[np.float64]:
        """Of every exit, (samples, exits, classes)."""
        return softmax(self.logits)

    @cached_property
    def predicted(self) -> NDArray[np.int64]:
        found: NDArray[np.int64] = self.logits[:, self.exit].argmax(-1)
        return found

    @cached_property
    def uncertainty(self) -> NDArray[np.float64]:
        """Entropy of the exit that answers, as a share of the most there can be, ln C."""
        found: NDArray[np.float64] = entropy(self.probabilities[:, self.exit]) / np.log(self.classes)
        return found


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    exact = logits.astype(np.float64)
    risen = np.exp(exact - exact.max(-1, keepdims=True))
    found: NDArray[np.float64] = risen / risen.sum(-1, keepdims=True)
    return found


def entropy(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return -sum p ln p over the last dimension."""
    found: NDArray[np.float64] = -(probabilities * np.log(np.maximum(probabilities, FLOOR))).sum(-1)
    return found
