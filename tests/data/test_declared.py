from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosp.data import consecutive_rows, declared_dataset
from cosp.data.declared import DeclaredRows
from cosp.errors import DataError
from cosp.seeds import stream_seed
from cosp.stratified import hold_back


def test_declared_data_have_a_shape_and_a_number_and_take_no_memory():
    dataset = declared_dataset("imagenet", shape=(3, 224, 224), classes=300, samples=390_000)
    assert dataset.train.x.shape == (390_000, 3, 224, 224)
    assert dataset.sample_shape == (3, 224, 224)
    assert dataset.train.x.base.nbytes == 4
    assert np.bincount(dataset.train.y).tolist() == [1300] * 300
    assert dataset.declared


@given(st.lists(st.integers(1, 9), min_size=1, max_size=20), st.integers(0, 1000))
def test_consecutive_rows_are_all_rows_once_as_near_to_their_shares_as_whole_rows_allow(shares, total):
    parts = consecutive_rows(total, shares)
    assert np.concatenate(parts).tolist() == list(range(total))
    for part, share in zip(parts, shares, strict=True):
        assert abs(len(part) - total * share / sum(shares)) < 1


@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=12),
    st.integers(2, 13),
    st.floats(0.05, 0.95),
    st.integers(0, 9),
)
def test_declared_rows_are_those_of_parts_that_are_cut_and_held_back_one_by_one(shares, classes, share, seed):
    total = 3 * sum(shares) + 1
    labels = np.arange(total) % classes
    found = DeclaredRows(total, shares, classes=classes, share=share, seed=seed)
    assert len(found) == len(shares)
    for client, part in enumerate(consecutive_rows(total, shares)):
        train, test = hold_back(part, labels, share, stream_seed(seed, "local test", client))
        assert [rows.tolist() for rows in found[client]] == [train.tolist(), test.tolist()]
        counts = np.bincount(labels[train], minlength=classes)
        assert found.holding(client) == (len(train), len(test), tuple(counts.tolist()))


def test_the_first_client_with_too_little_is_named():
    with pytest.raises(DataError, match="client 1: 1 images cannot be split"):
        DeclaredRows(4, [3, 1, 1], classes=2, share=0.5, seed=0)
