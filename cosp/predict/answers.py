"""Which class each input is, by which exit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cosp.models.transformer import Transformer
from cosp.predict.opened import Opened

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Answers:
    """``probabilities`` (N, classes), and the block behind which each input left, ``exits`` (N,)."""

    probabilities: Floats
    exits: NDArray[np.int64]

    def best(self) -> list[tuple[int, float]]:
        """Return each input's class and its probability."""
        return [(int(row.argmax()), float(row.max())) for row in self.probabilities]


def answers(model: Opened, x: NDArray[Any], *, after: int | None = None, confident: float | None = None) -> Answers:
    """Classify prepared samples by the exit behind block ``after``, else by the one that validation chose.

    With ``confident`` each leaves at the first exit whose largest probability is that high; where cosp itself computes
    the model, what is behind it is not computed.
    """
    last = model.last_exit(after)
    if confident is None:
        logits = model.answer(x)
        return Answers(probabilities=softmax(logits[last]), exits=np.full(len(x), model.facts.exits[last]))
    if model.module is not None:
        found = [_left(model.module, sample, last, confident) for sample in x]
        left, rows = np.array([exit for exit, _ in found]), np.stack([row for _, row in found])
    else:
        every = np.stack([softmax(z) for z in model.answer(x)[: last + 1]])
        left = leaving(every, confident)
        rows = every[left, np.arange(len(x))]
    return Answers(probabilities=rows, exits=np.array(model.facts.exits)[left])


def leaving(probabilities: Floats, confident: float) -> NDArray[np.int64]:
    """Return at which exit each sample leaves, for ``probabilities`` (exits, N, classes): the first sure one or the
    last.
    """
    sure = probabilities.max(-1) >= confident
    sure[-1] = True
    return np.asarray(sure.argmax(0), np.int64)


def softmax(logits: NDArray[np.float32]) -> Floats:
    """Return probabilities (N, classes) in float64."""
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    raised = np.exp(shifted)
    return np.asarray(raised / raised.sum(-1, keepdims=True))


@torch.no_grad()
def _left(module: Transformer, sample: NDArray[Any], last: int, confident: float) -> tuple[int, Floats]:
    row: Floats = np.empty(0)
    for i, logits in enumerate(_in_turn(module, sample)):
        row = softmax(logits)[0]
        if i == last or row.max() >= confident:
            return i, row
    return last, row


def _in_turn(module: Transformer, sample: NDArray[Any]) -> Iterator[NDArray[np.float32]]:
    for logits in module.in_turn(torch.from_numpy(sample[np.newaxis])):
        yield logits.numpy()
