"""Data laid out for trainers: plain ``.npy`` files that many processes map into memory and none copies.

x_train.npy y_train.npy x_test.npy ...    the splits; x_train.json where images stay in their files
clients.npz                                rows of the train split: ``train_<client>``, ``test_<client>``

A board's store holds its own data alone, as client 0, and ``recipe.json``: how they were made.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, Mapping, NamedTuple, Sequence, Tuple

import numpy as np

from cosp.errors import DataError
from cosp.recipe import FILE, Recipe, recipe_from
from cosp.trainer.samples import ClientSamples, Samples

CLASSES = "classes.json"
"""All that the stores of an older cosp say of how they were made."""

Rows = Tuple[np.ndarray, np.ndarray]
"""A client's rows of the train split: those it trains on, those it holds back."""


def write_store(folder: Path, splits: Mapping[str, Samples], clients: Sequence[Rows]) -> None:
    """Write the splits ("train" and others) and each client's rows of "train" into ``folder``."""
    for name, samples in splits.items():
        if isinstance(samples.x, np.ndarray):
            np.save(folder / f"x_{name}.npy", samples.x)
        else:  # images that stay in their files
            (folder / f"x_{name}.json").write_text(samples.x.to_json(), encoding="utf-8")
        np.save(folder / f"y_{name}.npy", samples.y)
    rows: Dict[str, Any] = {f"train_{i}": train for i, (train, _) in enumerate(clients)}
    rows.update({f"test_{i}": test for i, (_, test) in enumerate(clients)})
    np.savez(folder / "clients.npz", **rows)


def open_store(folder: Path) -> Tuple[Mapping[int, ClientSamples], Dict[str, Samples]]:
    """Return the clients' samples and the other splits of :func:`write_store`, memory-mapped.

    DataError names a file that is missing or damaged.
    """
    splits = {}
    for x_path in sorted(folder.glob("x_*.*")):
        name = x_path.stem[2:]
        with _named(x_path):
            x = _open_x(x_path)
        with _named(folder / f"y_{name}.npy") as path:
            splits[name] = Samples(x, np.load(path, mmap_mode="r"))
    with _named(folder / "clients.npz") as path, path.open("rb") as file, np.load(file) as rows:
        return ClientStore(splits["train"], dict(rows)), splits


@contextmanager
def _named(path: Path) -> Iterator[Path]:
    """Turn what goes wrong with a file into a DataError that names it."""
    try:
        yield path
    except Exception as error:  # a damaged file can raise nearly anything
        raise DataError(
            f"{path}: is missing or damaged ({error!r}); make the store anew: cosp store CONFIG --out DIR"
        ) from None


def _open_x(path: Path) -> Any:
    if path.suffix == ".npy":
        return np.load(path, mmap_mode="r")
    from cosp.data.image_files import ImageFiles  # not on boards: their stores hold arrays

    return ImageFiles.from_json(path.read_text(encoding="utf-8"))


class ClientStore(Mapping[int, ClientSamples]):
    """Client -> its samples, read when asked for and kept."""

    def __init__(self, train: Samples, rows: Mapping[str, np.ndarray]) -> None:
        self._train = train
        self._rows = rows
        self._open: Dict[int, ClientSamples] = {}

    def __getitem__(self, client: int) -> ClientSamples:
        if client not in self._open:
            parts = [self._rows[f"{part}_{client}"] for part in ("train", "test")]
            self._open[client] = ClientSamples(*(Samples(self._train.x[rows], self._train.y[rows]) for rows in parts))
        return self._open[client]

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self)))

    def __len__(self) -> int:
        return len(self._rows) // 2


class BoardStore(NamedTuple):
    """A board's own data, and how they were made: the class names, too, that their labels are indices into."""

    samples: ClientSamples
    recipe: Recipe


def write_board_store(folder: Path, board: BoardStore) -> None:
    """Write one board's data into ``folder``, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    train, test = board.samples.train, board.samples.test
    both = Samples(np.concatenate([np.asarray(train.x), np.asarray(test.x)]), np.concatenate([train.y, test.y]))
    rows = np.arange(len(both.y))
    write_store(folder, {"train": both}, [(rows[: len(train.y)], rows[len(train.y) :])])
    (folder / FILE).write_text(board.recipe.to_json(), encoding="utf-8")


def open_board_store(folder: Path) -> BoardStore:
    """Return the data of :func:`write_board_store`, read into memory; DataError if they are not there or damaged."""
    if not (folder / "x_train.npy").exists():
        raise DataError(f"{folder}: holds no board's store, no x_train.npy; make one: cosp store CONFIG --out DIR")
    clients, splits = open_store(folder)
    recipe = _recipe(folder, splits["train"])
    _check(splits["train"], recipe, folder)
    with _named(folder / "clients.npz"):
        return BoardStore(clients[0], recipe)


def _recipe(folder: Path, samples: Samples) -> Recipe:
    if (folder / FILE).exists() or not (folder / CLASSES).exists():
        with _named(folder / FILE) as path:
            return recipe_from(path.read_text(encoding="utf-8"))
    with _named(folder / CLASSES) as path:
        classes = json.loads(path.read_text(encoding="utf-8"))
        if not (isinstance(classes, list) and all(isinstance(name, str) for name in classes)):
            raise ValueError("must be a list of names")
        return Recipe(tuple(classes), tuple(samples.x.shape[1:]))


def _check(samples: Samples, recipe: Recipe, folder: Path) -> None:
    """DataError unless these are images, texts or series as ``recipe`` says, with labels of its classes."""
    (x, y), classes = samples, len(recipe.classes)
    with _named(folder / "y_train.npy"):
        if y.dtype != np.int64 or y.ndim != 1 or y.min() < 0 or y.max() >= classes:
            raise ValueError(f"must be int64 (N,) in 0..{classes - 1}, got {y.dtype} {y.shape} in {y.min()}..{y.max()}")
    with _named(folder / "x_train.npy"):
        if (x.dtype, x.ndim) not in ((np.float32, 4), (np.int32, 2), (np.float32, 3)) or len(x) != len(y):
            raise ValueError(
                f"must be {len(y)} images, texts or series, float32 (N, C, H, W), int32 (N, T) or float32 (N, T, C), "
                f"got {x.dtype} {x.shape}"
            )
        if x.shape[1:] != recipe.sample_shape:
            raise ValueError(f"samples are {x.shape[1:]}, {FILE} says {recipe.sample_shape}")
