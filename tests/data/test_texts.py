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
