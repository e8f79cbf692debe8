"""A linear classifier in closed form from summed moments: ridge regression of the classes on features.

Hoerl and Kennard 1970: W = (X^T X + alpha I)^-1 X^T Y of centred features X and class marks Y, so that the intercept is
not shrunk. ``alpha`` is chosen by generalised cross-validation (Golub, Heath and Wahba 1979), which needs no data
beside the moments.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

SHRINKAGES = tuple(10.0 ** (half / 2) for half in range(-4, 5))
"""What is tried as alpha, in means of the eigenvalues of X^T X: 0.01 to 100."""
SHARPNESS = 0.4
"""Logits are regressed marks times this over their error. Fitted on held-out samples of digits, wine, breast cancer and
20 Newsgroups, 2 to 20 classes: between 0.35 and 0.51 was best, and 0.4 within 6 % of the best loss."""


@dataclass(frozen=True)
class Moments:
    """Sums over samples of z z^T, (d + 1, d + 1), and of z y^T, (d + 1, classes): features z with a 1 behind them,
    class marks y.
    """

    squares: Matrix
    classes: Matrix

    def __add__(self, other: Moments) -> Moments:
        return Moments(self.squares + other.squares, self.classes + other.classes)

    @property
    def samples(self) -> int:
        return round(float(self.squares[-1, -1]))


@dataclass(frozen=True, kw_only=True)
class Head:
    """A linear head, weight (classes, d) and bias (classes,); ``error`` is what GCV expects of its regressed marks,
    squared, a mark, and ``scale`` what they are multiplied by to be logits.
    """

    weight: Matrix
    bias: Matrix
    alpha: float
    error: float
    scale: float


def fitted_head(moments: Moments) -> Head:
    """Return the head of the ``alpha`` that GCV prefers, the larger at a tie, centred over classes, as logits."""
    alpha, error = min(gcv_errors(moments), key=lambda pair: (pair[1], -pair[0]))
    weight, bias = ridge(moments, alpha)
    scale = SHARPNESS / error
    weight, bias = scale * (weight - weight.mean(0)), scale * (bias - bias.mean())
    return Head(weight=weight, bias=bias, alpha=alpha, error=error, scale=scale)


def ridge(moments: Moments, alpha: float) -> tuple[Matrix, Matrix]:
    """Return weight (classes, d) and bias (classes,) that regress the class marks on the features."""
    squares, classes, mean, shares = _centred(moments)
    weight: Matrix = np.asarray(np.linalg.solve(squares + alpha * np.eye(len(squares)), classes).T, dtype=np.float64)
    return weight, shares - weight @ mean


def gcv_errors(moments: Moments) -> Iterator[tuple[float, float]]:
    """Yield each alpha that is tried, and the squared error a mark that GCV expects of unseen samples."""
    squares, classes, _, shares = _centred(moments)
    n = moments.samples
    values, vectors = np.linalg.eigh(squares)
    values = np.maximum(values, 0.0)
    turned = (vectors.T @ classes) ** 2
    total = n * float(np.sum(shares * (1 - shares)))
    for shrinkage in SHRINKAGES:
        alpha = shrinkage * (float(values.mean()) or 1.0)  # features that are all the same tell nothing
        kept = 1 / (values + alpha)
        explained = float(((2 * kept - values * kept**2)[:, None] * turned).sum())
        freedom = max(1 - (1 + float((values * kept).sum())) / n, 1 / n)
        yield alpha, max(total - explained, 1e-9 * n) / (n * len(shares)) / freedom**2


def _centred(moments: Moments) -> tuple[Matrix, Matrix, Matrix, Matrix]:
    """Return X^T X and X^T Y about the means, the features' mean and the classes' shares."""
    n = moments.squares[-1, -1]
    mean, shares = moments.squares[-1, :-1] / n, moments.classes[-1] / n
    squares = moments.squares[:-1, :-1] - n * np.outer(mean, mean)
    return squares, moments.classes[:-1] - n * np.outer(mean, shares), mean, shares
