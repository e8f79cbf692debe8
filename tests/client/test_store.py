from __future__ import annotations

import numpy as np
import pytest

from cosp.client.store import open_store, write_store
from cosp.client.training import Samples


@pytest.fixture
def store(tmp_path):
    x = np.arange(6 * 4, dtype=np.float32).reshape(6, 1, 2, 2)
    splits = {"train": Samples(x, np.arange(6)), "validation": Samples(x[:2] + 100, np.array([1, 0]))}
    write_store(tmp_path, splits, [(np.array([0, 2]), np.array([5])), (np.array([4]), np.array([1, 3]))])
    return open_store(tmp_path)


def test_each_client_reads_its_own_rows(store):
    clients, _ = store
    assert len(clients) == len(list(clients)) == 2
    assert clients[0].train.y.tolist() == [0, 2]
    assert clients[0].test.y.tolist() == [5]
    assert clients[1].test.x[:, 0, 0, 0].tolist() == [4.0, 12.0]


def test_the_servers_splits_are_mapped_not_read(store):
    _, splits = store
    assert splits["validation"].y.tolist() == [1, 0]
    assert splits["validation"].x[0, 0, 0, 0] == 100.0
    assert isinstance(splits["train"].x, np.memmap)


def test_an_unknown_client_is_a_key_error(store):
    with pytest.raises(KeyError):
        store[0][2]
