from __future__ import annotations

import importlib
import socket
import warnings
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosp.data.partition import Kind, PartitionScheme, merge, partition
from cosp.errors import DataError
from cosp.stratified import hold_back

PAPER_SHARES = [6] * 2 + [3] * 8 + [3] * 3 + [3] * 2 + [1]  # 52 pseudo-clients, 16 clients
BALANCED = np.arange(1000) % 10


def classes_of(rows: np.ndarray) -> int:
    return len(np.unique(BALANCED[rows]))


@settings(deadline=None, max_examples=40)
@given(
    kind=st.sampled_from(["iid", "dirichlet", "pathological"]),
    labels=st.lists(st.integers(0, 3), min_size=60, max_size=120),
    shares=st.lists(st.integers(1, 3), min_size=4, max_size=5),
    pseudo=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_parts_are_disjoint_complete_sorted(kind: Kind, labels: list[int], shares: list[int], pseudo: bool, seed: int):
    y = np.array([*labels, *([0, 1, 2, 3] * 10)])  # enough of every class for every client
    scheme = PartitionScheme(kind=kind, alpha=2.0, classes_per_client=1, pseudo_clients=pseudo, min_samples=1)
    clients = partition(y, scheme=scheme, shares=shares, seed=seed)
    assert len(clients) == len(shares)
    assert sorted(np.concatenate(clients).tolist()) == list(range(len(y)))
    assert all(rows.dtype == np.int64 and (np.diff(rows) > 0).all() for rows in clients)


@settings(deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=6), st.integers(0, 99))
def test_merging_keeps_every_row_and_gives_each_client_its_share(shares: list[int], seed: int):
    parts = [np.array([2 * part, 2 * part + 1]) for part in range(sum(shares))]
    clients = merge(parts, shares=shares, rng=np.random.default_rng(seed))
    assert [len(rows) for rows in clients] == [2 * share for share in shares]
    assert sorted(np.concatenate(clients).tolist()) == list(range(2 * sum(shares)))


@pytest.fixture(scope="module")
def theirs() -> ModuleType:
    """Flower's partitioners: imported where they are used, as pandas and seaborn come with them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("flwr_datasets.partitioner")


def cut_by(partitioner: Any, labels: np.ndarray, rng: np.random.Generator) -> list[list[int]]:
    """What flwr-datasets gives of rows in a random order."""
    datasets = importlib.import_module("datasets")
    rows = rng.permutation(len(labels))
    partitioner.dataset = datasets.Dataset.from_dict({"label": labels[rows], "row": rows})
    return [sorted(partitioner.load_partition(part)["row"]) for part in range(partitioner.num_partitions)]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("parts", [3, 52])
def test_parts_are_those_of_flwr_datasets(theirs: ModuleType, parts: int, seed: int):
    labels = np.random.default_rng(seed).integers(0, 7, 1234)
    rng = np.random.default_rng([seed, 0])  # of the first attempt
    plain = PartitionScheme(kind="iid", min_samples=1)
    wanted = cut_by(theirs.IidPartitioner(parts), labels, rng)
    order = rng.permutation(parts)
    got = partition(labels, scheme=plain, shares=[1] * parts, seed=seed)
    assert [rows.tolist() for rows in got] == [wanted[part] for part in order]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("parts", "alpha"), [(3, 0.5), (20, 1.5)])
def test_shares_of_classes_are_those_of_flwr_datasets(theirs: ModuleType, parts: int, alpha: float, seed: int):
    labels = np.random.default_rng(seed).integers(0, 7, 1234)
    rng = np.random.default_rng([seed, 0])
    drawn = theirs.DirichletPartitioner(
        parts, "label", alpha, min_partition_size=0, shuffle=False, seed=int(rng.integers(2**31))
    )
    wanted = cut_by(drawn, labels, rng)
    order = rng.permutation(parts)
    got = partition(labels, scheme=PartitionScheme(alpha=alpha, min_samples=1), shares=[1] * parts, seed=seed)
    assert [rows.tolist() for rows in got] == [wanted[part] for part in order]


def test_merging_refuses_leftover_parts():
    with pytest.raises(ValueError, match="shares must sum to the number of parts 3, got 2"):
        merge([np.array([0])] * 3, shares=[1, 1], rng=np.random.default_rng(0))


def test_iid_clients_of_the_paper_hold_data_by_their_shares():
    clients = partition(np.arange(5200) % 10, scheme=PartitionScheme(kind="iid"), shares=PAPER_SHARES, seed=0)
    assert [len(rows) for rows in clients] == [100 * share for share in PAPER_SHARES]


def test_without_pseudo_clients_shares_do_not_count():
    scheme = PartitionScheme(kind="iid", pseudo_clients=False)
    assert [len(rows) for rows in partition(BALANCED, scheme=scheme, shares=[6, 3, 1, 1], seed=0)] == [250] * 4


def test_iid_is_not_cut_in_file_order():
    sorted_labels = np.repeat(np.arange(10), 100)
    clients = partition(sorted_labels, scheme=PartitionScheme(kind="iid"), shares=[1] * 10, seed=0)
    assert min(len(np.unique(sorted_labels[rows])) for rows in clients) == 10


def test_small_alpha_is_more_uneven_than_large():
    def largest_share(alpha: float) -> float:
        scheme = PartitionScheme(alpha=alpha, min_samples=1)
        clients = partition(BALANCED, scheme=scheme, shares=[1] * 8, seed=0)
        return float(np.mean([np.bincount(BALANCED[rows]).max() / len(rows) for rows in clients]))

    assert largest_share(0.1) > 0.4
    assert largest_share(1000.0) < 0.2


@pytest.mark.parametrize(("clients", "classes"), [(16, 2), (5, 2), (4, 5), (1, 10)])
def test_pathological_clients_hold_exactly_that_many_classes(clients: int, classes: int):
    scheme = PartitionScheme(kind="pathological", classes_per_client=classes)
    parts = partition(BALANCED, scheme=scheme, shares=[1] * clients, seed=1)
    assert [classes_of(rows) for rows in parts] == [classes] * clients
    assert sum(map(len, parts)) == len(BALANCED)


def test_pathological_refuses_to_leave_a_class_to_nobody():
    scheme = PartitionScheme(kind="pathological", classes_per_client=2)
    with pytest.raises(DataError, match="4 parts of 2 different classes cannot use all of 10 classes"):
        partition(BALANCED, scheme=scheme, shares=[1] * 4, seed=0)


def test_pathological_names_the_class_with_too_few_images():
    y = np.array([0] * 30 + [1] * 2)
    scheme = PartitionScheme(kind="pathological", classes_per_client=2, min_samples=1)
    with pytest.raises(DataError, match="class 1 has 2 images for 4 clients"):
        partition(y, scheme=scheme, shares=[1] * 4, seed=0)


@pytest.mark.parametrize("kind", ["iid", "dirichlet", "pathological"])
def test_same_seed_same_partition_whatever_numpy_drew_before(kind: Kind):
    def draw(seed: int) -> list[list[int]]:
        scheme = PartitionScheme(kind=kind)
        return [rows.tolist() for rows in partition(BALANCED, scheme=scheme, shares=[2] * 8, seed=seed)]

    np.random.seed(1)
    first = draw(7)
    state = np.random.get_state()[1].tolist()
    np.random.seed(2)
    assert draw(7) == first != draw(8)
    np.random.seed(1)
    assert np.random.get_state()[1].tolist() == state  # nor did drawing move the global state


def test_nothing_is_printed_sent_or_warned(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    def refuse(*_: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        partition(BALANCED, scheme=PartitionScheme(alpha=0.1), shares=PAPER_SHARES, seed=0)
    assert capfd.readouterr() == ("", "")


def test_too_uneven_a_draw_says_what_to_change():
    with pytest.raises(DataError, match=r"alpha 0.01 left a client with fewer than min_samples = 50 .* raise alpha"):
        partition(BALANCED, scheme=PartitionScheme(alpha=0.01, min_samples=50), shares=[1] * 16, seed=0)


def test_too_few_images_for_the_clients():
    with pytest.raises(DataError, match="30 training images are too few for 4 clients of 10"):
        partition(np.arange(30) % 3, scheme=PartitionScheme(), shares=[1] * 4, seed=0)


@pytest.mark.parametrize("shares", [[], [1, 0]])
def test_shares_are_positive(shares: list[int]):
    with pytest.raises(ValueError, match="shares must hold one number >= 1 for each client"):
        partition(BALANCED, scheme=PartitionScheme(), shares=shares, seed=0)


@pytest.mark.parametrize(
    "wrong",
    [{"kind": "random"}, {"alpha": 0.0}, {"alpha": float("nan")}, {"classes_per_client": 0}, {"min_samples": 0}],
)
def test_scheme_names_the_field_that_is_wrong(wrong: dict[str, object]):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
        PartitionScheme(**wrong)  # type: ignore[arg-type]


@given(st.integers(2, 50), st.floats(0.01, 0.99), st.integers(0, 9))
def test_held_back_rows_are_never_none_nor_all(count: int, share: float, seed: int):
    indices = np.arange(100, 100 + count)
    train, test = hold_back(indices, np.arange(200) % 3, share, seed)
    assert len(train) > 0 < len(test)
    assert sorted([*train, *test]) == indices.tolist()


def test_held_back_rows_have_the_clients_class_mix():
    labels = np.array([0] * 100 + [1] * 20)
    _, test = hold_back(np.arange(120), labels, 0.1, 0)
    assert np.bincount(labels[test]).tolist() == [10, 2]


def test_holding_back_from_one_image_names_the_client():
    with pytest.raises(DataError, match="client 3: 1 images cannot be split"):
        hold_back(np.array([5]), np.zeros(6, int), 0.2, 0, owner="client 3")


def test_share_lies_between_zero_and_one():
    with pytest.raises(ValueError, match="share must lie between 0 and 1, got 1"):
        hold_back(np.arange(4), np.zeros(4, int), 1.0, 0)
