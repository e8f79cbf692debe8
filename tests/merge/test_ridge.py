"""Heads from moments, against scikit-learn and against held-out samples."""

from __future__ import annotations

from functools import reduce
from operator import add

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.linear_model import Ridge

from cosp.merge.ridge import Moments, fitted_head, gcv_errors, ridge

CLASSES = 3


def samples(count: int, features: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = np.arange(count) % CLASSES
    return rng.normal(size=(count, features)) + 2 * np.eye(CLASSES, features)[y] + 7, y


def marks(y: np.ndarray, classes: int = CLASSES) -> np.ndarray:
    return np.eye(classes)[y]


def moments_of(x: np.ndarray, y: np.ndarray, classes: int = CLASSES) -> Moments:
    z = np.column_stack([x, np.ones(len(x))])
    return Moments(z.T @ z, z.T @ marks(y, classes))


@pytest.mark.parametrize("alpha", [0.01, 1.0, 100.0])
def test_ridge_is_scikit_learns(alpha: float):
    x, y = samples(40)
    theirs = Ridge(alpha=alpha).fit(x, marks(y))
    weight, bias = ridge(moments_of(x, y), alpha)
    assert np.allclose(weight, theirs.coef_, atol=1e-9)
    assert np.allclose(bias, theirs.intercept_, atol=1e-8)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 40), st.lists(st.integers(0, 4), min_size=2, max_size=40))
def test_moments_of_any_split_sum_to_those_of_the_whole(count: int, owners: list[int]):
    x, y = samples(count)
    owner = np.resize(owners, count)
    parts = [moments_of(x[owner == i], y[owner == i]) for i in sorted(set(owner.tolist()))]
    together, whole = reduce(add, parts), moments_of(x, y)
    assert together.samples == count
    assert np.allclose(together.squares, whole.squares, rtol=1e-12)
    assert np.allclose(together.classes, whole.classes, rtol=1e-12)
    assert np.allclose(fitted_head(together).weight, fitted_head(whole).weight, atol=1e-6)


def test_gcv_is_the_error_of_leaving_each_out_where_all_weigh_alike():
    """Its own definition, by the hat matrix: the residual sum over (n - trace)^2, times n."""
    x, y = samples(30)
    for alpha, error in gcv_errors(moments_of(x, y)):
        centred = x - x.mean(0)
        hat = centred @ np.linalg.solve(centred.T @ centred + alpha * np.eye(5), centred.T) + 1 / 30
        residuals = marks(y) - hat @ marks(y)
        assert error == pytest.approx(30 * float((residuals**2).sum()) / CLASSES / (30 - np.trace(hat)) ** 2)


def test_the_head_of_digits_is_as_good_as_the_best_alpha_on_samples_that_it_never_saw():
    x, y = load_digits(return_X_y=True)
    x = x / 16
    moments, (xt, yt) = moments_of(x[:600], y[:600], 10), (x[600:], y[600:])

    def accuracy(weight: np.ndarray, bias: np.ndarray) -> float:
        return float(((xt @ weight.T + bias).argmax(1) == yt).mean())

    head = fitted_head(moments)
    best = max(accuracy(*ridge(moments, alpha)) for alpha, _ in gcv_errors(moments))
    assert accuracy(head.weight, head.bias) >= best - 0.01 > 0.85
    logits = xt @ head.weight.T + head.bias
    sure = np.exp(logits - logits.max(1, keepdims=True))
    sure /= sure.sum(1, keepdims=True)
    assert abs(sure.max(1).mean() - (logits.argmax(1) == yt).mean()) < 0.1  # as sure as it is right
    assert np.allclose(head.weight.sum(0), 0, atol=1e-9)  # centred over classes


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_head_of_hardly_any_samples_is_finite(count: int):
    x, y = samples(count)
    head = fitted_head(moments_of(x, y))
    assert np.isfinite(head.weight).all()
    assert np.isfinite(head.bias).all()


def test_features_that_are_all_the_same_leave_the_classes_shares():
    y = np.array([0, 0, 1])
    head = fitted_head(moments_of(np.ones((3, 4)), y, 2))
    assert np.allclose(head.weight, 0)
    assert head.bias[0] > head.bias[1]
