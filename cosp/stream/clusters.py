"""Which boards drift alike, by what they send: so that each cluster of them can have a set of its own.

Of each window a board's signature is taken: how unsure it was, how evenly its answers spread over the classes, and of
the samples that came up their mean, their deviation and how much neighbours in them differ. Boards are compared by the
means of their last windows, in standard errors, which the windows of one board tell. All boards are one cluster; the
cluster whose two halves (2-means) lie furthest apart is split while they lie more than ``apart`` apart.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from cosp.adaptation.answers import entropy
from cosp.adaptation.batches import Batch
from cosp.adaptation.upward import Report
from cosp.methods.rules import Settings

Vector = NDArray[np.float64]
_PASSES = 20
"""Of 2-means at most."""
_LEAST = 1e-9
"""A standard error is no less, so that boards that never vary can be compared."""


class ClusterConfig(Settings):
    """At most so many clusters; boards are compared by their last ``windows``, and clusters are as many standard errors
    ``apart`` at least.
    """

    most: int = Field(4, ge=2)
    windows: int = Field(3, ge=2)
    apart: float = Field(8.0, gt=0)


class Clustering:
    """Remembers boards' signatures; says anew who is with whom, once all have reported as often as there are boards."""

    def __init__(self, config: ClusterConfig, boards: Sequence[int]) -> None:
        self._config, self._boards = config, tuple(sorted(boards))
        self._seen: dict[int, deque[Vector]] = {client: deque(maxlen=config.windows) for client in self._boards}
        self._reports = 0

    def take(self, client: int, report: Report, batches: Sequence[Batch]) -> list[list[int]] | None:
        """Take what a board sent of a window; return the clusters, each ascending, by their first boards, if it is time
        to look and enough is known.
        """
        self._seen[client].append(signature(report, batches))
        self._reports += 1
        if self._reports < len(self._boards):
            return None
        self._reports = 0
        return clusters(self._seen, self._config)

    def state(self) -> dict[str, Any]:
        """Return what it remembers, as JSON values."""
        seen = {str(client): [one.tolist() for one in known] for client, known in self._seen.items()}
        return {"reports": self._reports, "seen": seen}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Undo ``state``."""
        self._reports = state["reports"]
        for client, known in state["seen"].items():
            self._seen[int(client)].extend(np.array(one) for one in known)


def signature(report: Report, batches: Sequence[Batch]) -> Vector:
    """Return (5,) figures of a window; NaN what nothing is known of. Word numbers have no mean that says anything."""
    shares = report.predicted / max(1, report.predicted.sum())
    numbers = [batch.x.double().numpy() for batch in batches if batch.x.is_floating_point() and len(batch.x)]
    if not numbers:
        return np.array([report.uncertainty, entropy(shares), np.nan, np.nan, np.nan])
    figures = np.concatenate([_of_samples(x) for x in numbers])
    return np.array([report.uncertainty, entropy(shares), *figures.mean(0)])


def _of_samples(x: NDArray[Any]) -> Vector:
    """Return mean, deviation and mean difference of neighbours of each sample, (samples, 3)."""
    within = tuple(range(1, x.ndim))
    return np.stack([x.mean(within), x.std(within), np.abs(np.diff(x, axis=-1)).mean(within)], axis=1)


def clusters(seen: Mapping[int, Sequence[Vector]], config: ClusterConfig) -> list[list[int]] | None:
    """Return who drifts alike; boards of which nothing is known are with the first. None: too little is known."""
    known = [client for client, windows in sorted(seen.items()) if len(windows)]
    places = _places([np.stack(list(seen[client])) for client in known], config.windows)
    if places is None:
        return None
    found = [np.arange(len(known))]
    while len(found) < config.most:
        halves = [_halved(places, members) for members in found]
        gaps = [0.0 if half is None else half[1] for half in halves]
        widest = int(np.argmax(gaps))
        half = halves[widest]
        if half is None or gaps[widest] <= config.apart:
            break
        members = found.pop(widest)
        found += [members[half[0]], members[~half[0]]]
    silent = [client for client in seen if client not in set(known)]
    named = sorted([known[i] for i in members] for members in found)
    return [sorted([*named[0], *silent]), *named[1:]]


def _places(boards: Sequence[Vector], windows: int) -> Vector | None:
    """Return boards (boards, figures) in standard errors of a board's mean; None if no board told of two windows."""
    means = np.stack([_nanmean(one) for one in boards])
    squares = np.nansum([np.nansum((one - mean) ** 2, axis=0) for one, mean in zip(boards, means, strict=True)], axis=0)
    spare = np.sum([np.maximum(np.isfinite(one).sum(0) - 1, 0) for one in boards], axis=0)
    if not spare.any():
        return None
    errors = np.sqrt(squares / np.maximum(spare, 1) / windows)
    centre = _nanmean(means)
    moved = np.where(np.isfinite(means), means - centre, 0.0)  # what is not known of a board sets it apart from none
    return np.where(spare > 0, moved / np.maximum(errors, _LEAST), 0.0)


def _nanmean(values: Vector) -> Vector:
    counts = np.isfinite(values).sum(0)
    found: Vector = np.where(counts > 0, np.nansum(values, axis=0) / np.maximum(counts, 1), np.nan)
    return found


def _halved(places: Vector, members: NDArray[np.int64]) -> tuple[NDArray[np.bool_], float] | None:
    """Return which of ``members`` are in the first half, and how far apart the halves' means are."""
    own = places[members]
    if len(own) < 2:
        return None
    first = own[_furthest(own, own.mean(0))]
    second = own[_furthest(own, first)]
    in_first = np.zeros(len(own), bool)
    for _ in range(_PASSES):
        nearer = _squared(own, first) <= _squared(own, second)
        if nearer.all() or not nearer.any():
            return None  # they do not differ
        if (nearer == in_first).all():
            break
        in_first = nearer
        first, second = own[in_first].mean(0), own[~in_first].mean(0)
    return in_first, float(np.sqrt(_squared(first[None], second)[0]))


def _furthest(own: Vector, point: Vector) -> int:
    return int(np.argmax(_squared(own, point)))


def _squared(own: Vector, point: Vector) -> Vector:
    found: Vector = ((own - point) ** 2).sum(1)
    return found


def matched(new: Sequence[Sequence[int]], old: Mapping[int, Sequence[int]]) -> list[int | None]:
    """Return which of the ``old`` groups, by number, each ``new`` cluster goes on as: largest overlap first, ties to
    the lower number; None: none is left for it.
    """
    shared = sorted(
        (-len(set(cluster) & set(clients)), number, i)
        for i, cluster in enumerate(new)
        for number, clients in old.items()
        if set(cluster) & set(clients)
    )
    found: dict[int, int] = {}
    for _, number, i in shared:
        if i not in found and number not in found.values():
            found[i] = number
    return [found.get(i) for i in range(len(new))]
