"""Data laid out for trainers: plain ``.npy`` files that many processes map into memory and none copies.

x_train.npy y_train.npy x_test.npy ...    the splits; x_train.json where images stay in their files
rows.npy ends.npy                          rows of the train split, client by client: what it trains on, what it
                                           holds back; and where either ends, (clients, 2)

A board's store holds its own data alone, as client 0, and ``recipe.json``: how they were made. Its rows are in
``clients.npz``, as older boards know it: ``train_0``, ``test_0``.
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
    _write_splits(folder, splits)
    parts = [rows for client in clients for rows in client]
    ends = np.cumsum([len(rows) for rows in parts], dtype=np.int64).reshape(-1, 2)
    np.save(folder / "rows.npy", np.concatenate([np.empty(0, np.int64), *parts]))
    np.save(folder / "ends.npy", ends)


def _write_splits(folder: Path, splits: Mapping[str, Samples]) -> None:
    for name, samples in splits.items():
        if isinstance(samples.x, np.ndarray):
            np.save(folder / f"x_{name}.npy", samples.x)
        else:  # images that stay in their files
            (folder / f"x_{name}.json").write_text(samples.x.to_json(), encoding="utf-8")
        np.save(folder / f"y_{name}.npy", samples.y)


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
    return ClientStore(splits["train"], _rows(folder)), splits


def _rows(folder: Path) -> Sequence[Rows]:
    if (folder / "ends.npy").exists():
        with _named(folder / "rows.npy") as path:
            return StoredRows(np.load(path, mmap_mode="r"), np.load(folder / "ends.npy"))
    with _named(folder / "clients.npz") as path, path.open("rb") as file, np.load(file) as rows:
        return [(rows[f"train_{i}"], rows[f"test_{i}"]) for i in range(len(rows.files) // 2)]


class StoredRows(Sequence[Rows]):
    """Every client's rows, as they lie in a store: one array, however many clients there are."""

    def __init__(self, rows: np.ndarray, ends: np.ndarray) -> None:
        self._rows, self._ends = rows, ends
        if ends.ndim != 2 or ends.shape[1] != 2 or (ends.size and ends[-1, 1] != len(rows)):
            raise ValueError(f"ends {ends.shape} are not those of {len(rows)} rows")

    def __getitem__(self, client: Any) -> Any:
        first = self._ends[client - 1, 1] if client else 0
        middle, last = self._ends[client]
        return self._rows[first:middle], self._rows[middle:last]

    def __len__(self) -> int:
        return len(self._ends)


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

    def __init__(self, train: Samples, rows: Sequence[Rows]) -> None:
        self._train = train
        self._rows = rows
        self._open: Dict[int, ClientSamples] = {}

    def __getitem__(self, client: int) -> ClientSamples:
        if client not in self._open:
            if not 0 <= client < len(self._rows):
                raise KeyError(client)
            parts = self._rows[client]
            self._open[client] = ClientSamples(*(Samples(self._train.x[rows], self._train.y[rows]) for rows in parts))
        return self._open[client]

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self)))

    def __len__(self) -> int:
        return len(self._rows)


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
    _write_splits(folder, {"train": both})
    np.savez(folder / "clients.npz", train_0=rows[: len(train.y)], test_0=rows[len(train.y) :])
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
