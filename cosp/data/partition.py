"""Which client holds which training images: parts as flwr-datasets cuts them, then the paper's merge of pseudo-clients.

The three ways to cut are a few lines each, and are tested to give flwr-datasets' own parts: importing that takes longer
than making a plan. Source of the merge: Li et al., arXiv 2410.08457, section Experiments (Dirichlet over 52
pseudo-clients, merged into 16).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cosp.errors import DataError

Kind = Literal["iid", "dirichlet", "pathological"]
ATTEMPTS = 30  # draws until every client has ``min_samples``


@dataclass(frozen=True, kw_only=True)
class PartitionScheme:
    """How labels are spread over clients.

    ``alpha``: concentration of the Dirichlet draw of each class over the parts. ``classes_per_client``: of each part
    before merging, if pathological. ``pseudo_clients``: draw sum(shares) parts and merge shares[n] of them into client
    n; otherwise one part a client. ``min_samples``: of each client.
    """

    kind: Kind = "dirichlet"
    alpha: float = 0.5
    classes_per_client: int = 2
    pseudo_clients: bool = True
    min_samples: int = 10

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"kind must be one of {', '.join(get_args(Kind))}, got {self.kind!r}")
        if not 0 < self.alpha < float("inf"):
            raise ValueError(f"alpha must be finite and > 0, got {self.alpha}")
        if self.classes_per_client < 1:
            raise ValueError(f"classes_per_client must be >= 1, got {self.classes_per_client}")
        if self.min_samples < 1:
            raise ValueError(f"min_samples must be >= 1, got {self.min_samples}")


def partition(
    labels: NDArray[np.int64], *, scheme: PartitionScheme, shares: Sequence[int], seed: int
) -> list[NDArray[np.int64]]:
    """Sorted row numbers for each client, disjoint and together all of ``labels``.

    DataError if the scheme cannot give every client its ``min_samples`` in 30 draws.
    """
    if not shares or min(shares) < 1:
        raise ValueError(f"shares must hold one number >= 1 for each client, got {list(shares)}")
    merged = list(shares) if scheme.pseudo_clients else [1] * len(shares)
    if len(labels) < max(scheme.min_samples * len(merged), sum(merged)):
        raise DataError(
            f"partition: {len(labels)} training images are too few for {len(merged)} clients of {scheme.min_samples} "
            f"({sum(merged)} parts); use fewer clients, lower min_samples or more images"
        )
    for attempt in range(ATTEMPTS):
        rng = np.random.default_rng([seed, attempt])
        clients = merge(_draw(labels, scheme, sum(merged), rng), shares=merged, rng=rng)
        if min(map(len, clients)) >= scheme.min_samples:
            return clients
    what = f"dirichlet with alpha {scheme.alpha}" if scheme.kind == "dirichlet" else scheme.kind
    raise DataError(
        f"partition: {what} left a client with fewer than min_samples = {scheme.min_samples} of {len(labels)} images "
        f"in {ATTEMPTS} draws; raise alpha, lower min_samples or use fewer clients"
    )


def merge(
    parts: Sequence[NDArray[np.int64]], *, shares: Sequence[int], rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Join ``shares[n]`` randomly chosen parts into client n; every part is used once."""
    if sum(shares) != len(parts):
        raise ValueError(f"shares must sum to the number of parts {len(parts)}, got {sum(shares)}")
    order = rng.permutation(len(parts)).tolist()
    ends = np.cumsum(shares).tolist()
    return [
        np.sort(np.concatenate([parts[part] for part in order[end - share : end]]))
        for end, share in zip(ends, shares, strict=True)
    ]


def _draw(
    labels: NDArray[np.int64], scheme: PartitionScheme, parts: int, rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    if scheme.kind == "pathological":
        return _pathological(labels, parts, scheme.classes_per_client, rng)
    if scheme.kind == "iid":
        return np.array_split(rng.permutation(len(labels)), parts)
    return _dirichlet(labels, parts, scheme.alpha, rng)


def _dirichlet(
    labels: NDArray[np.int64], parts: int, alpha: float, rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Deal each class out by shares of its own, drawn from a symmetric Dirichlet distribution."""
    shares_rng = np.random.default_rng(int(rng.integers(2**31)))
    rows = rng.permutation(len(labels))
    found: list[list[NDArray[np.int64]]] = [[] for _ in range(parts)]
    for kind in np.unique(labels):
        of_class = rows[labels[rows] == kind]
        shares = shares_rng.dirichlet(np.full(parts, float(alpha)))
        ends = (np.cumsum(shares) * len(of_class)).astype(np.int64)
        for part, piece in zip(found, np.split(of_class, ends[:-1]), strict=True):
            part.append(piece)
    return [np.concatenate(part) for part in found]


def _pathological(
    labels: NDArray[np.int64], parts: int, classes_per_part: int, rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Parts of exactly that many classes each, every class used: each part in turn gets the classes dealt least so
    far, ties by lot, and each class is cut into as many equal pieces as it was dealt.
    """
    classes, counts = np.unique(labels, return_counts=True)
    if not len(classes) <= parts * classes_per_part or classes_per_part > len(classes):
        raise DataError(
            f"partition: pathological with {parts} parts of {classes_per_part} different classes cannot use all of "
            f"{len(classes)} classes; change classes_per_client or the number of clients"
        )
    dealt = np.zeros(len(classes), np.int64)
    hands: list[list[tuple[int, int]]] = []  # of each part: (class, which piece of it)
    for _ in range(parts):
        hand = np.lexsort((rng.random(len(classes)), dealt))[:classes_per_part].tolist()
        hands.append([(kind, int(dealt[kind])) for kind in hand])
        dealt[hand] += 1
    short = np.flatnonzero(counts < dealt)
    if len(short):
        raise DataError(
            f"partition: class {classes[short[0]]} has {counts[short[0]]} images for {dealt[short[0]]} clients; "
            "lower classes_per_client or use fewer clients"
        )
    rows = rng.permutation(len(labels))
    pieces = [
        np.array_split(rows[labels[rows] == kind], times) for kind, times in zip(classes, dealt.tolist(), strict=True)
    ]
    return [np.concatenate([pieces[kind][piece] for kind, piece in hand]) for hand in hands]
