from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cosp.errors import DataError
from cosp.recipe import Recipe
from cosp.trainer.samples import ClientSamples, Samples
from cosp.trainer.store import BoardStore, open_board_store, open_store, write_board_store, write_store

X = np.arange(6 * 4, dtype=np.float32).reshape(6, 1, 2, 2)


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


@pytest.fixture
def board(tmp_path: Path) -> Path:
    own = ClientSamples(Samples(X[:4], np.array([0, 1, 2, 0])), Samples(X[4:], np.array([1, 2])))
    write_board_store(tmp_path, BoardStore(own, Recipe(("a", "b", "c"), X.shape[1:])))
    return tmp_path


FILES = ("clients.npz", "recipe.json", "x_train.npy", "y_train.npy")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("content", [None, b"", b"text", -3, 10], ids=str)
def test_a_damaged_file_is_named_in_one_line(board: Path, name: str, content: bytes | int | None):
    whole = (board / name).read_bytes()
    (board / name).unlink()
    if content is not None:
        (board / name).write_bytes(whole[:content] if isinstance(content, int) else content)
    with pytest.raises(DataError, match=rf"{name}[:;].* cosp store CONFIG --out DIR") as caught:
        open_board_store(board)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "array", "said"),
    [
        ("x_train", X[:3], "must be 6 images, texts or series"),
        ("x_train", X.astype(np.float64), "got float64"),
        ("x_train", X[:, 0, 0, 0], "must be 6 images, texts or series"),
        ("y_train", np.arange(6), r"must be int64 \(N,\) in 0..2, got int64 \(6,\) in 0..5"),
        ("y_train", np.arange(6) % 3 - 1, "in -1..1"),
        ("y_train", np.ones(6), "got float64"),
        ("y_train", np.ones((6, 2), np.int64), "must be int64"),
    ],
)
def test_a_wrong_array_is_named(board: Path, name: str, array: np.ndarray, said: str):
    np.save(board / f"{name}.npy", array)
    with pytest.raises(DataError, match=f"{name}.npy: is missing or damaged .*{said}"):
        open_board_store(board)


def test_series_are_a_board_s_data_too(board: Path):
    np.save(board / "x_train.npy", X[:, 0])
    (board / "recipe.json").write_text(Recipe(("a", "b", "c"), (2, 2)).to_json())
    assert open_board_store(board).samples.train.x.shape == (4, 2, 2)


def test_samples_of_another_shape_than_the_recipe_s_are_refused(board: Path):
    (board / "recipe.json").write_text(Recipe(("a", "b", "c"), (2, 2)).to_json())
    with pytest.raises(DataError, match=r"x_train.npy: .*samples are \(1, 2, 2\), recipe.json says \(2, 2\)"):
        open_board_store(board)


@pytest.mark.parametrize("change", [{"classes": "abc"}, {"classes": [1, 2]}, {"sample_shape": [0]}, {"surprise": 1}])
def test_a_recipe_that_is_none_is_named(board: Path, change: dict[str, object]):
    (board / "recipe.json").write_text(json.dumps({**json.loads((board / "recipe.json").read_text()), **change}))
    with pytest.raises(DataError, match=f"recipe.json: .*{next(iter(change))}"):
        open_board_store(board)


@pytest.mark.parametrize("classes", [3, {}, "abc", [1, 2, 3]])
def test_classes_of_an_older_cosp_s_store_are_names(board: Path, classes: object):
    (board / "recipe.json").unlink()
    (board / "classes.json").write_text(json.dumps(classes))
    with pytest.raises(DataError, match="classes.json: .*must be a list of names"):
        open_board_store(board)


def test_an_older_cosp_s_store_says_its_classes_alone(board: Path):
    (board / "recipe.json").unlink()
    (board / "classes.json").write_text(json.dumps(["a", "b", "c"]))
    recipe = open_board_store(board).recipe
    assert (recipe.classes, recipe.sample_shape, recipe.mean) == (("a", "b", "c"), (1, 2, 2), None)


@pytest.mark.parametrize("rows", [{"train_0": [0]}, {"train_0": [0], "test_0": [6]}, {"train_0": [0.5], "test_0": [1]}])
def test_wrong_rows_are_named(board: Path, rows: dict[str, list[float]]):
    np.savez(board / "clients.npz", **rows)
    with pytest.raises(DataError, match="clients.npz: is missing or damaged"):
        open_board_store(board)
