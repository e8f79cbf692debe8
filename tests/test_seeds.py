from __future__ import annotations

import torch

from cosp.seeds import numpy_stream, stream_seed, torch_stream


def test_a_stream_is_a_function_of_seed_and_purpose():
    assert numpy_stream(0, "batches", 3, 1).random() == numpy_stream(0, "batches", 3, 1).random()
    assert torch.rand(1, generator=torch_stream(0, "gates")) == torch.rand(1, generator=torch_stream(0, "gates"))


def test_purposes_do_not_share_a_stream():
    purposes = [(), ("a",), ("b",), ("a", 1), ("a", 11), ("a", 1, 1), ("a", "1"), ("a1",)]
    seeds = {stream_seed(seed, *purpose) for seed in (0, 1) for purpose in purposes}
    assert len(seeds) == 2 * len(purposes)


def test_seeds_fit_every_generator():
    assert all(0 <= stream_seed(0, i) < 2**63 for i in range(100))


def test_streams_stay_what_they_were():
    assert stream_seed(5, "units", 2, "heads") == 6687643665216207493  # a change would make old runs unrepeatable
