from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cosp.data import Sizes, load_dataset
from cosp.errors import DataError

X = np.arange(50 * 6).reshape(50, 6) % 40
Y = np.arange(50) % 2


def test_integers_of_two_dimensions_are_texts(tmp_path: Path):
    np.savez(tmp_path / "news.npz", x=X, y=Y)
    dataset = load_dataset("news.npz", data_dir=tmp_path)
    assert (dataset.sample_shape, dataset.vocabulary, dataset.mean) == ((6,), 40, ())
    assert dataset.train.x.dtype == np.int32
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (36, 4, 10)


def test_the_vocabulary_is_the_whole_files_whatever_is_used_of_it(tmp_path: Path):
    np.savez(tmp_path / "news.npz", x=X[:20], y=Y[:20], x_test=np.full((3, 6), 77), y_test=Y[:3])
    sizes = Sizes(train=4, validation=2, test=1)
    assert load_dataset(str(tmp_path / "news.npz"), sizes=sizes).vocabulary == 78


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X / 2, Y, "must be texts, integers for their words, got float64"),
        (X[:9], Y, "every text needs one label, got 9 texts and 50 labels"),
        (X - 1, Y, "must lie in 0..2147483647, got -1..38"),
        (X[:, :0], Y, "at least one word"),
        (X, Y / 2, "labels must be integers"),
    ],
)
def test_texts_that_are_none_are_refused(tmp_path: Path, x, y, message):
    np.savez(tmp_path / "news.npz", x=x, y=y)
    with pytest.raises(DataError, match=message):
        load_dataset(str(tmp_path / "news.npz"))


@pytest.mark.parametrize(
    "x",
    [
        np.full((50, 784), 3, np.uint8),
        np.full((50, 30), 3, np.uint8),
        np.arange(50 * 784).reshape(50, 784) % 256,
        np.arange(50 * 3072, dtype=np.int32).reshape(50, 3072) % 250,
    ],
)
def test_flattened_images_are_asked_for_their_shape(tmp_path: Path, x: np.ndarray):
    np.savez(tmp_path / "mnist.npz", x=x, y=Y)
    with pytest.raises(DataError, match=r"looks like flattened images: reshape x to \(N, H, W\[, C\]\)"):
        load_dataset(str(tmp_path / "mnist.npz"))


def test_bytes_of_texts_are_read_if_one_is_sure(tmp_path: Path):
    np.savez(tmp_path / "bytes.npz", x=X.astype(np.uint8), y=Y)
    assert load_dataset(str(tmp_path / "bytes.npz"), kind="texts").vocabulary == 40


def test_bytes_of_texts_say_so_by_their_vocabulary(tmp_path: Path):
    np.savez(tmp_path / "bytes.npz", x=X.astype(np.uint8), y=Y, vocabulary=256)
    dataset = load_dataset(str(tmp_path / "bytes.npz"))
    assert (dataset.vocabulary, dataset.train.x.dtype) == (256, np.int32)
    np.savez(tmp_path / "bytes.npz", x=X, y=Y, vocabulary=39)
    with pytest.raises(DataError, match=r"must lie in 0\.\.38, got 0\.\.39"):
        load_dataset(str(tmp_path / "bytes.npz"))
    np.savez(tmp_path / "bytes.npz", x=X, y=Y, vocabulary=[1, 2])
    with pytest.raises(DataError, match="'vocabulary' must be one number"):
        load_dataset(str(tmp_path / "bytes.npz"))
