"""Which samples of a window a board sends up, of what its exits say of them: forward passes alone, no labels.

==================  ===================================================================================================
``none``, ``all``   what they say
``random``          the control: any of them
``entropy_band``    neither hopeless nor trivial: low < H / ln C < high, and high may move with the stream's mean
                    entropy (CEMA, Chen et al. 2024, arXiv:2402.17316, eqs. 1 to 4; in the released code it does not)
``tail``            the largest probability is below ``sure`` (as CD-CCA's, Wang et al. 2024, arXiv:2312.16279)
``disagreement``    the exits contradict the deepest one: mean of KL(deepest || exit) / ln C above ``disagreeing``
==================  ===================================================================================================

A budget cuts what a rule wants, in its order. With ``fill`` a rule that wants less than the budget takes those that it
likes next best, so that rules can be compared at equal bytes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Optional, Tuple

import numpy as np

RULES = ("none", "all", "random", "entropy_band", "tail", "disagreement")


@dataclass(frozen=True)
class UploadSettings:
    """``samples`` and ``most_bytes`` bound a window; ``low`` and ``high`` are shares of ln C.

    ``moving`` is CEMA's lambda: once ``warm_samples`` were seen, high is lambda high mean(H) / mean(H, warm); None
    leaves it. ``redundant``: samples are dropped whose prediction's cosine to the moving mean of those sent is that
    high (EATA, Niu et al. 2022, arXiv:2204.02610: 0.05 for 1,000 classes, 0.4 for 10). ``collapsed``: a window is not
    sent at all whose mean prediction has less than that share of ln C as entropy.
    """

    __pydantic_config__ = {"extra": "forbid", "allow_inf_nan": False}  # a misspelt key in a config is an error

    rule: str = "entropy_band"
    samples: Optional[int] = None
    most_bytes: Optional[int] = None
    fill: bool = False
    low: float = 0.02
    high: float = 0.4
    moving: Optional[float] = None
    warm_samples: int = 256
    sure: float = 0.5
    disagreeing: float = 0.05
    redundant: Optional[float] = None
    collapsed: Optional[float] = None

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ValueError(f"rule must be one of {RULES}, got {self.rule!r}")
        if not 0 <= self.low < self.high <= 1:
            raise ValueError(f"low and high must ascend within [0, 1], got {self.low} and {self.high}")
        for name in ("samples", "most_bytes", "warm_samples"):
            if getattr(self, name) is not None and not getattr(self, name) >= 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}")
        for name in ("sure", "redundant", "collapsed"):
            if getattr(self, name) is not None and not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in (0, 1], got {getattr(self, name)}")
        if self.moving is not None and not self.moving > 0:
            raise ValueError(f"moving must be > 0, got {self.moving}")
        if not self.disagreeing >= 0:
            raise ValueError(f"disagreeing must be >= 0, got {self.disagreeing}")
        if self.fill and self.samples is None and self.most_bytes is None:
            raise ValueError("fill takes a budget: give samples or most_bytes")

    def check_budget(self, sample_bytes: int) -> None:
        """``ValueError`` if a window's budget is below one sample of ``sample_bytes``."""
        if self.rule != "none" and self.most_bytes is not None and self.most_bytes < sample_bytes:
            raise ValueError(f"most_bytes must hold a sample, which takes {sample_bytes}, got {self.most_bytes}")


@dataclass(frozen=True)
class Seen:
    """What a board remembers between windows: samples, their entropies' sum and that of the first ones, in shares of
    ln C, and the moving mean of what it predicted of those it sent.
    """

    samples: int = 0
    entropies: float = 0.0
    warm_mean: Optional[float] = None
    sent_mean: Optional[Tuple[float, ...]] = None


@dataclass(frozen=True)
class Choice:
    """``rows`` of the window that go up, in their order; and of all of the window what is worth telling.

    ``entropy`` and ``disagreement`` are means, shares of ln C; ``high`` is the threshold that held; ``dropped`` counts
    redundant samples, ``collapsed`` says that nothing was sent for that reason.
    """

    rows: np.ndarray
    entropy: float
    confidence: float
    disagreement: float
    high: float
    dropped: int = 0
    collapsed: bool = False


def choose(
    settings: UploadSettings, seen: Seen, probabilities: np.ndarray, costs: np.ndarray, rng: np.random.Generator
) -> Tuple[Choice, Seen]:
    """Return what goes up of a window, and what the board remembers after it.

    ``probabilities`` (exits, samples, classes), shallow to deep; ``costs`` (samples,) bytes that each would take.
    """
    deepest = probabilities[-1]
    h, sure, apart = entropy(deepest), deepest.max(-1), disagreement(probabilities)
    after = _having_seen(seen, h, settings.warm_samples)
    high = moved_high(settings, after)
    facts = Choice(np.zeros(0, np.int64), float(h.mean()), float(sure.mean()), float(apart.mean()), high)
    if settings.collapsed is not None and float(entropy(deepest.mean(0))) < settings.collapsed:
        return replace(facts, collapsed=True), after
    order = _in_order(settings, h=h, sure=sure, apart=apart, high=high, rng=rng)
    fresh = _fresh(order, deepest, seen.sent_mean, settings.redundant)
    rows = np.sort(_within(fresh, costs, settings))
    if len(rows):
        after = replace(after, sent_mean=_moved(seen.sent_mean, deepest[rows].mean(0)))
    return replace(facts, rows=rows, dropped=len(order) - len(fresh)), after


def entropy(probabilities: np.ndarray) -> np.ndarray:
    """Return the entropy of (..., classes) as a share of its most, ln C."""
    p = np.clip(probabilities.astype(np.float64), 1e-12, 1.0)
    return np.asarray(-(p * np.log(p)).sum(-1) / math.log(p.shape[-1]))


def disagreement(probabilities: np.ndarray) -> np.ndarray:
    """Return the mean over shallower exits of KL(deepest || exit) / ln C, (samples,); zeros with a single exit."""
    p = np.clip(probabilities.astype(np.float64), 1e-12, 1.0)
    if len(p) == 1:
        return np.zeros(p.shape[1])
    divergences = (p[-1] * (np.log(p[-1]) - np.log(p[:-1]))).sum(-1)
    return np.asarray(np.maximum(divergences.mean(0), 0.0) / math.log(p.shape[-1]))


def moved_high(settings: UploadSettings, seen: Seen) -> float:
    """Return the band's upper threshold by what was ``seen`` (CEMA, eq. 2)."""
    if settings.moving is None or not seen.warm_mean:
        return settings.high
    return min(1.0, settings.moving * settings.high * (seen.entropies / seen.samples) / seen.warm_mean)


def _having_seen(seen: Seen, h: np.ndarray, warm_samples: int) -> Seen:
    samples, entropies = seen.samples + len(h), seen.entropies + float(h.sum())
    warm = entropies / samples if seen.warm_mean is None and samples >= warm_samples else seen.warm_mean
    return replace(seen, samples=samples, entropies=entropies, warm_mean=warm)


def _in_order(
    settings: UploadSettings,
    *,
    h: np.ndarray,
    sure: np.ndarray,
    apart: np.ndarray,
    high: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return the rows that the rule wants, best first; with ``fill`` all others behind them."""
    count = len(h)
    arrival = np.arange(count)
    outside = np.maximum(settings.low - h, h - high)  # of the band; below zero is inside
    wanted, rank = {
        "none": (np.zeros(count, bool), arrival),
        "all": (np.ones(count, bool), arrival),
        "random": (np.ones(count, bool), rng.permutation(count)),
        "entropy_band": (outside < 0, np.maximum(outside, 0.0)),
        "tail": (sure < settings.sure, sure),
        "disagreement": (apart > settings.disagreeing, -apart),
    }[settings.rule]
    order = np.lexsort((arrival, rank, ~wanted))
    return order if settings.fill and settings.rule != "none" else order[: int(wanted.sum())]


def _fresh(
    order: np.ndarray, predictions: np.ndarray, mean: Optional[Tuple[float, ...]], limit: Optional[float]
) -> np.ndarray:
    """Return ``order`` without the samples that are too like what was sent before."""
    if limit is None or mean is None:
        return order
    m = np.array(mean)
    p = predictions[order]
    cosines = np.abs(p @ m) / np.maximum(np.linalg.norm(p, axis=-1) * np.linalg.norm(m), 1e-12)
    return np.asarray(order[cosines < limit])


def _within(order: np.ndarray, costs: np.ndarray, settings: UploadSettings) -> np.ndarray:
    """Return as many of ``order`` as the budget holds; the first that does not fit ends it."""
    fit = np.arange(len(order)) < (len(order) if settings.samples is None else settings.samples)
    if settings.most_bytes is not None:
        fit &= np.cumsum(costs[order]) <= settings.most_bytes
    return np.asarray(order[fit])


def _moved(mean: Optional[Tuple[float, ...]], found: np.ndarray) -> Tuple[float, ...]:
    """Return the moving mean after a window whose sent samples' mean prediction is ``found``."""
    moved = found if mean is None else 0.9 * np.array(mean) + 0.1 * found
    return tuple(float(value) for value in moved)
