"""Boards that drift alike are found by what they send, and get a set of their own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from test_server import Scripted

from cosp.adaptation.batches import Batch
from cosp.adaptation.upward import Report
from cosp.stream.clusters import ClusterConfig, Clustering, clusters, matched, signature
from cosp.stream.server import AdaptingServer

CONFIG = ClusterConfig(most=3, windows=3, apart=8.0)


def windows(centres: list[float], *, count: int = 3, seed: int = 0, noise: float = 0.1) -> dict[int, list[Any]]:
    """Return what boards told of ``count`` windows: two figures around a centre each."""
    rng = np.random.default_rng(seed)
    return {i: [rng.normal(centre, noise, 2) for _ in range(count)] for i, centre in enumerate(centres)}


@pytest.mark.parametrize("seed", range(10))
def test_boards_that_are_alike_are_one_cluster(seed: int) -> None:
    assert clusters(windows([0.0] * 16, seed=seed), CONFIG) == [list(range(16))]


@pytest.mark.parametrize("seed", range(10))
def test_boards_far_apart_are_told_apart(seed: int) -> None:
    assert clusters(windows([0, 2, 0, 2, 0, 2], seed=seed), CONFIG) == [[0, 2, 4], [1, 3, 5]]
    assert clusters(windows([0, 2, 9, 0, 2, 9], seed=seed), CONFIG) == [[0, 3], [1, 4], [2, 5]]


def test_there_are_never_more_than_most() -> None:
    found = clusters(windows([0, 10, 20, 30, 40]), CONFIG)
    assert found is not None
    assert len(found) == 3
    assert sorted(client for cluster in found for client in cluster) == [0, 1, 2, 3, 4]


def test_a_board_of_which_nothing_is_known_is_with_the_first_and_one_window_tells_no_error() -> None:
    seen = windows([0, 0, 2, 2])
    assert clusters({**seen, 1: []}, CONFIG) == [[0, 1], [2, 3]]
    assert clusters(windows([0, 2], count=1), CONFIG) is None


def test_a_signature_says_how_unsure_how_even_and_of_samples_mean_deviation_and_roughness() -> None:
    report = Report(version=0, samples=4, uncertainty=0.5, predicted=np.array([2, 2]))
    x = torch.tensor([[[[0.0, 2.0], [0.0, 2.0]]]])
    assert signature(report, [Batch(x)]) == pytest.approx([0.5, np.log(2), 1.0, 1.0, 2.0])
    assert np.isnan(signature(report, [Batch(torch.tensor([[3, 4]]))])[2:]).all()  # words
    assert np.isnan(signature(report, [])[2:]).all()


def test_a_cluster_goes_on_as_the_group_that_most_of_it_was() -> None:
    assert matched([[0, 1], [2, 3]], {0: [0, 1, 2, 3]}) == [0, None]  # a tie is the first one's
    assert matched([[0], [1, 2, 3]], {0: [0, 1, 2, 3]}) == [None, 0]
    assert matched([[0, 1, 2, 3]], {0: [0], 5: [1, 2, 3]}) == [5]


def test_a_new_cluster_begins_with_the_good_set_of_the_one_that_it_came_from_and_merges_again() -> None:
    made: list[Scripted] = []

    def learner(number: int, clients: Any, model: Any) -> Scripted:
        made.append(Scripted(model))
        return made[-1]

    boards = [0, 1, 2, 3]
    one = AdaptingServer(
        {"w": torch.tensor(0.0)}, {}, classes=2, groups=[boards], learner=learner, trials=None,
        clustering=Clustering(ClusterConfig(windows=2), boards),
    )  # fmt: skip
    rng = np.random.default_rng(0)

    def window(*light: float) -> list[dict[str, Any]]:
        rows = []
        for client in boards:
            report = Report(version=0, samples=4, uncertainty=0.5, predicted=np.array([2, 2]))
            x = torch.from_numpy(rng.normal(light[client], 0.01, (1, 1, 4, 4)).astype(np.float32))
            rows += one.take(client, report, [Batch(x)])
        return [row for row in rows if row["kind"] == "clusters"]

    assert window(1, 1, 1, 1) == window(1, 1, 1, 1) == []
    window(1, 1, 5, 5)
    (row,) = window(1, 1, 5, 5)
    assert row["groups"] == [[0, [0, 1]], [1, [2, 3]]]
    assert made[1].went_back == [float(one.target(0).model["w"])]  # where the first stood
    assert made[0].clients == [0, 1]
    window(1, 1, 5, 5)
    assert one.target(2).version != one.target(0).version
    assert one.target(2).version == one.target(3).version
    rows = [row for _ in range(3) for row in window(1, 1, 1, 1)]
    assert rows[-1]["groups"] in ([[0, boards]], [[1, boards]])
    assert one.target(2).version == one.target(0).version
