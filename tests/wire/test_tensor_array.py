from __future__ import annotations

import pickle

import torch
from flwr.app import Array, ArrayRecord
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents

from cosp.wire.messages import TensorArray


def test_the_bytes_are_those_of_flowers_own_array():
    tensor = torch.tensor([[1.0, -2.5], [0.0, 3.0]])
    ours, theirs = TensorArray(tensor), Array(tensor.numpy())
    assert (ours.data, ours.object_id) == (theirs.data, theirs.object_id)


def test_flower_reads_it_back_from_the_wire():
    record = ArrayRecord()
    record["a"], record["b"] = TensorArray(torch.arange(6.0).reshape(2, 3)), TensorArray(torch.tensor(7.0))
    objects = {key: value.deflate() for key, value in get_all_nested_objects(record).items()}
    back = inflate_object_from_contents(record.object_id, objects)
    assert isinstance(back, ArrayRecord)
    assert {name: array.numpy().tolist() for name, array in back.items()} == {"a": [[0, 1, 2], [3, 4, 5]], "b": 7}


def test_more_than_one_chunk_arrives_in_order():
    tensor = torch.arange(3_000_000.0)  # 12 MB; Flower's chunks are at most 5 MB
    record = ArrayRecord()
    record["long"] = TensorArray(tensor)
    objects = {key: value.deflate() for key, value in get_all_nested_objects(record).items()}
    assert len(objects) == 1 + 1 + 3  # record, array, chunks
    back = inflate_object_from_contents(record.object_id, objects)
    assert isinstance(back, ArrayRecord)
    assert torch.equal(torch.from_numpy(back["long"].numpy()), tensor)


def test_a_pickled_view_leaves_the_rest_of_its_storage_behind():
    whole = torch.arange(100_000.0)
    text = pickle.dumps(TensorArray(whole[:10]))
    assert len(text) < 1000
    assert pickle.loads(text).numpy().tolist() == list(range(10))
