from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosp.data.splits import Sizes, other_rows, rows_to_test, train_validation_rows
from cosp.errors import DataError
from cosp.stratified import stratified_rows


def test_each_class_gives_its_share():
    labels = np.array([0] * 60 + [1] * 30 + [2] * 10)
    rows = stratified_rows(labels, 10, seed=3)
    assert np.bincount(labels[rows]).tolist() == [6, 3, 1]


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.data(), st.integers(0, 9))
def test_counts_are_exact_and_within_one_of_the_share(labels: list[int], data: st.DataObject, seed: int):
    y = np.array(labels)
    count = data.draw(st.integers(0, len(y)))
    rows = stratified_rows(y, count, seed)
    assert len(set(rows.tolist())) == len(rows) == count
    for kind in range(5):
        assert abs((y[rows] == kind).sum() - (y == kind).sum() * count / len(y)) < 1


def test_other_rows_are_the_complement():
    assert other_rows(5, np.array([1, 3])).tolist() == [0, 2, 4]


def test_first_images_train_and_the_next_validate():
    train, validation = train_validation_rows(np.arange(9) % 3, sizes=Sizes(train=4, validation=2), seed=0, origin="x")
    assert (train.tolist(), validation.tolist()) == ([0, 1, 2, 3], [4, 5])


def test_by_default_a_stratified_tenth_validates():
    labels = np.arange(100) % 5
    train, validation = train_validation_rows(labels, sizes=Sizes(), seed=0, origin="x")
    assert np.bincount(labels[validation]).tolist() == [2, 2, 2, 2, 2]
    assert sorted([*train, *validation]) == list(range(100))


def test_train_is_exact_when_validation_is_drawn():
    train, validation = train_validation_rows(np.arange(100) % 5, sizes=Sizes(train=50), seed=0, origin="x")
    assert (len(train), len(validation), set(train) & set(validation)) == (50, 5, set())


def test_asking_for_more_than_there_is_names_both_numbers():
    with pytest.raises(DataError, match="8 training \\+ 3 validation images were asked for, there are 10"):
        train_validation_rows(np.zeros(10, int), sizes=Sizes(train=8, validation=3), seed=0, origin="x")


def test_sizes_are_positive():
    with pytest.raises(ValueError, match="train must be >= 1, got 0"):
        Sizes(train=0)


def test_a_fifth_tests_when_the_source_has_no_test_split():
    labels = np.repeat([0, 1], 50)
    assert np.bincount(labels[rows_to_test(labels, origin="x")]).tolist() == [10, 10]


def test_one_image_cannot_be_split():
    with pytest.raises(DataError, match="at least 2 images, got 1"):
        rows_to_test(np.array([0]), origin="x")
