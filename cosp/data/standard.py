"""Data sets known by name: digits (comes with scikit-learn), MNIST, Fashion-MNIST and CIFAR-10 (files the user has)."""

from __future__ import annotations

import gzip
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from cosp.data.cifar import TRAIN_BATCHES, read_batches
from cosp.data.class_names import named_labels
from cosp.data.idx import read_idx
from cosp.data.images import Labelled, Source, checked_images
from cosp.data.npz import read_images
from cosp.errors import DataError

TEN = tuple(str(digit) for digit in range(10))
CLASSES = {
    "digits": TEN,
    "mnist": TEN,
    "fashion_mnist": (
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    ),
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
}  # fmt: skip
SHAPES = {"mnist": (28, 28, 1), "fashion_mnist": (28, 28, 1), "cifar10": (32, 32, 3)}
FOLDERS = {  # below the data folder, tried in this order before the data folder itself
    "mnist": ("mnist", "MNIST/raw"),
    "fashion_mnist": ("fashion_mnist", "fashion-mnist", "FashionMNIST/raw"),
    "cifar10": ("cifar10", "cifar-10"),
}
HUB_NAMES = {"mnist": "ylecun/mnist", "fashion_mnist": "zalando-datasets/fashion_mnist", "cifar10": "uoft-cs/cifar10"}
IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def read_standard(name: str, *, data_dir: Path | None) -> Source:
    """One of CLASSES; DataError says what was looked for and the two ways to get it."""
    if name == "digits":
        return _read_digits()
    folders = _folders(name, data_dir)
    found = _read_cifar(folders) if name == "cifar10" else _read_idx_set(name, folders)
    if found is None:
        raise DataError(_how_to_get(name, folders))
    train, test = found
    for images in found:
        if images.x.shape[1:] != SHAPES[name]:
            raise DataError(f"{images.origin}: images of {name} are {SHAPES[name]} (H, W, C), got {images.x.shape[1:]}")
    return named_labels(name, CLASSES[name], train, test)


def _read_digits() -> Source:
    """Read the file that scikit-learn's ``load_digits`` reads, without scikit-learn: a second or two to import."""
    package = find_spec("sklearn")
    if package is None or not package.submodule_search_locations:
        raise DataError("digits: comes with scikit-learn, which is not installed: pip install scikit-learn")
    path = Path(package.submodule_search_locations[0], "datasets", "data", "digits.csv.gz")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        table = np.loadtxt(file, delimiter=",")  # 64 whole numbers 0..16 and what they show
    x, y = table[:, :-1].reshape(-1, 8, 8).astype(np.uint8), table[:, -1].astype(np.int64)
    return named_labels("digits", CLASSES["digits"], checked_images(x, y, origin="digits"), None)


def _folders(name: str, data_dir: Path | None) -> list[Path]:
    if data_dir is None:
        return []
    return [data_dir / folder for folder in FOLDERS[name]] + [data_dir]


def _read_idx_set(name: str, folders: list[Path]) -> tuple[Labelled, Labelled] | None:
    for folder in folders:
        if not _idx_file(folder, IDX_FILES[0]).is_file():
            continue
        paths = [_idx_file(folder, file) for file in IDX_FILES]
        for path in paths:
            if not path.is_file():
                raise DataError(f"{path}: missing, while {paths[0].name} is there; {name} takes {', '.join(IDX_FILES)}")
        arrays = [read_idx(path, dimensions=3 if "idx3" in path.name else 1) for path in paths]
        return (
            checked_images(arrays[0], arrays[1], origin=str(paths[0])),
            checked_images(arrays[2], arrays[3], origin=str(paths[2])),
        )
    return None


def _idx_file(folder: Path, name: str) -> Path:
    """The plain file if there is one, else where the compressed one would be."""
    plain = folder / name
    return plain if plain.is_file() else folder / f"{name}.gz"


def _read_cifar(folders: list[Path]) -> tuple[Labelled, Labelled] | None:
    for folder in folders:
        if (folder / "train.npz").is_file() and (folder / "test.npz").is_file():
            return read_images(folder / "train.npz"), read_images(folder / "test.npz")
        for batches in (folder / "cifar-10-batches-py", folder):
            if (batches / TRAIN_BATCHES[0]).is_file():
                return read_batches(batches)
    return None


def _how_to_get(name: str, folders: list[Path]) -> str:
    files = (
        "cifar-10-batches-py/data_batch_1 or train.npz + test.npz" if name == "cifar10" else f"{IDX_FILES[0]}[.gz] etc."
    )
    where = f"not in {', '.join(map(str, folders))}" if folders else "no data folder was given"
    return (
        f"{name}: looked for {files}: {where}; "
        f"point --data-dir DIR or COSP_DATA_DIR at a folder with them, or use hf:{HUB_NAMES[name]} with network"
    )
