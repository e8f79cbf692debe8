"""Corruptions: shapes, seeds, severities."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from cosp.adaptation.corruptions import CORRUPTIONS, SEVERITIES, corrupt

SHAPES = [(8, 8, 1), (28, 28, 1), (16, 12, 3)]


def images(shape: tuple[int, int, int], count: int = 6) -> np.ndarray:
    """A bright blot each, somewhere."""
    rng = np.random.default_rng(0)
    rows, columns = (np.linspace(0, 1, size) for size in shape[:2])
    middle = rng.uniform(0.2, 0.8, (2, count, 1, 1, shape[2]))
    away = (rows[:, None, None] - middle[0]) ** 2 + (columns[None, :, None] - middle[1]) ** 2
    return np.exp(-30 * away).astype(np.float32)


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_same_shape_range_and_levels_from_the_same_seed(name, shape):
    found = corrupt(images(shape), name, 3, np.random.default_rng(5), white=1.0)
    again = corrupt(images(shape), name, 3, np.random.default_rng(5), white=1.0)
    assert (found.shape, found.dtype) == (images(shape).shape, np.float32)
    assert np.array_equal(found, again)
    assert found.min() >= 0
    assert found.max() <= 1
    assert np.allclose(found * 255, np.rint(found * 255), atol=1e-4)


@pytest.mark.parametrize("name", ["gaussian_noise", "impulse_noise", "motion_blur", "patch"])
def test_another_seed_draws_otherwise(name):
    one, other = (corrupt(images((8, 8, 1)), name, 4, np.random.default_rng(seed)) for seed in (1, 2))
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_each_severity_is_farther_from_the_image(name, shape):
    clean = images(shape, count=40)
    distances = [np.abs(corrupt(clean, name, s, np.random.default_rng(0)) - clean).mean() for s in SEVERITIES]
    assert all(less < more for less, more in pairwise(distances))


@pytest.fixture(scope="module")
def trained() -> tuple[LogisticRegression, np.ndarray, np.ndarray]:
    x, y = load_digits(return_X_y=True)
    model = LogisticRegression(max_iter=200, tol=1e-3).fit(x[:1000] / 16, y[:1000])
    return model, x[1000:].reshape(-1, 8, 8, 1), y[1000:]


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_trained_model_is_worse_the_harder_it_gets(name, trained):
    model, x, y = trained
    clean = model.score(x.reshape(len(x), -1) / 16, y)
    right = [
        model.score(corrupt(x, name, s, np.random.default_rng(0), white=16.0).reshape(len(x), -1) / 16, y)
        for s in SEVERITIES
    ]
    slack = 0.1 if name == "pixelate" else 0.01  # 8 pixels onto 2 lie on the grid, onto 3 they do not
    assert all(more >= less - slack for more, less in pairwise([clean, *right]))
    assert right[-1] < clean - 0.1


def test_white_only_scales():
    x = images((8, 8, 1))
    one = corrupt(x, "contrast", 2, np.random.default_rng(0))
    sixteen = corrupt(x * 16, "contrast", 2, np.random.default_rng(0), white=16.0)
    assert np.allclose(one * 16, sixteen, atol=1e-5)


def test_a_blur_keeps_an_even_image():
    flat = np.full((2, 9, 9, 1), 0.4, np.float32)
    for name in ("defocus", "motion_blur", "pixelate", "contrast"):
        assert np.allclose(corrupt(flat, name, 5, np.random.default_rng(0)), 0.4, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("fog", 1), "corruption must be one of"), (("patch", 0), "from 1 to 5"), (("patch", 2.5), "from 1 to 5")],
)
def test_wrong_words_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        corrupt(images((8, 8, 1)), *arguments, np.random.default_rng(0))


def test_another_shape_is_named():
    with pytest.raises(ValueError, match=r"\(N, H, W, C\)"):
        corrupt(np.zeros((8, 8)), "patch", 1, np.random.default_rng(0))
