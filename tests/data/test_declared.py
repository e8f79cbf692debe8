from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cosp.data import consecutive_rows, declared_dataset


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
