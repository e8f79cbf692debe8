"""When samples come to a board, which ones, and how they are corrupted then: drawn from the seed alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cosp.adaptation.corruptions import CORRUPTIONS
from cosp.seeds import numpy_stream
from cosp.stream.settings import BoardStream, Order, Rounds, Shift


@dataclass(frozen=True, kw_only=True)
class Arrivals:
    """What comes to one board: at ``times_s``, ascending, the samples ``rows`` of its data; ``shifts`` in force."""

    times_s: NDArray[np.float64]
    rows: NDArray[np.int64]
    shifts: tuple[Shift, ...]

    def __len__(self) -> int:
        return len(self.times_s)

    def shift_at(self, time_s: float) -> Shift | None:
        """Return what corrupts samples at ``time_s``; None: nothing does."""
        due = [shift for shift in self.shifts if shift.at_s <= time_s]
        return due[-1] if due and due[-1].corruption != "none" else None


def arrivals(stream: BoardStream, labels: NDArray[np.int64], *, seed: int, client: int, until_s: float) -> Arrivals:
    """Draw what comes to ``client``; ``labels`` are those of its data, of which ``as_is`` gives each once."""
    assert stream.per_s is not None
    assert stream.order is not None
    assert stream.drift is not None
    times_s = poisson(stream.per_s, until_s, numpy_stream(seed, "arrivals", client))
    if stream.data is not None and stream.order == "as_is":
        times_s = times_s[: len(labels)]
    rows = drawn_rows(labels, len(times_s), stream.order, numpy_stream(seed, "order", client))
    whose = () if isinstance(stream.drift, Rounds) and stream.drift.together else (client,)
    shifts = drawn_shifts(stream.drift, until_s, numpy_stream(seed, "drift", *whose))
    return Arrivals(times_s=times_s, rows=rows, shifts=shifts)


def poisson(per_s: float, until_s: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the times before ``until_s`` of what comes at random, ``per_s`` a second on average."""
    found, last_s = [], 0.0
    while last_s < until_s:
        more = last_s + np.cumsum(rng.exponential(1 / per_s, size=256))
        found.append(more)
        last_s = float(more[-1])
    times_s = np.concatenate(found)
    return times_s[times_s < until_s]


def drawn_rows(labels: NDArray[np.int64], count: int, order: Order, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return ``count`` rows of data with ``labels``: all of them, then all again, in a new order each time where that
    is drawn; by ``classes``: one class after another, these in an order that is drawn.
    """
    passes: list[NDArray[np.int64]] = []
    for _ in range(-(-count // len(labels))):
        if order == "as_is":
            passes.append(np.arange(len(labels)))
            continue
        mixed = rng.permutation(len(labels))
        if order == "classes":
            turn = rng.permutation(int(labels.max()) + 1)
            mixed = mixed[np.argsort(turn[labels[mixed]], kind="stable")]
        passes.append(mixed)
    return np.concatenate([*passes, np.zeros(0, np.int64)])[:count].astype(np.int64)


def drawn_shifts(drift: tuple[Shift, ...] | Rounds, until_s: float, rng: np.random.Generator) -> tuple[Shift, ...]:
    """Return the shifts of one board before ``until_s``: those listed, or all severities of one corruption after
    another, in an order that is drawn, from the first again after the last.
    """
    if not isinstance(drift, Rounds):
        return drift
    names = drift.corruptions or tuple(CORRUPTIONS)
    turn = [names[i] for i in rng.permutation(len(names))]
    steps = [(name, severity) for name in turn for severity in drift.severities]
    times_s = np.arange(drift.clean_s, until_s, drift.every_s)
    return tuple(
        Shift(at_s=float(at_s), corruption=steps[i % len(steps)][0], severity=steps[i % len(steps)][1])
        for i, at_s in enumerate(times_s)
    )
