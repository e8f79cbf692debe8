"""CIFAR-10's published python batches: pickles, read without letting them run code.

Source: https://www.cs.toronto.edu/~kriz/cifar.html
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cosp.data.images import Labelled, checked_images
from cosp.errors import DataError
from cosp.images.faults import first_line

TRAIN_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST_BATCH = "test_batch"
SIDE = 32
CLASSES = 10


def read_batches(folder: Path) -> tuple[Labelled, Labelled]:
    """Training and test images of a ``cifar-10-batches-py`` folder, in the published order."""
    batches = [_read_batch(folder / name) for name in TRAIN_BATCHES]
    x, y = (np.concatenate(arrays) for arrays in zip(*batches, strict=True))
    test_x, test_y = _read_batch(folder / TEST_BATCH)
    test = checked_images(test_x, test_y, origin=str(folder / TEST_BATCH))
    return checked_images(x, y, origin=str(folder)), test


def _read_batch(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    try:
        with path.open("rb") as file:
            batch = _ArraysOnly(file, encoding="bytes").load()
    except FileNotFoundError as error:
        raise DataError(
            f"{path}: this batch is missing; CIFAR-10 has {', '.join(TRAIN_BATCHES)} and {TEST_BATCH}"
        ) from error
    except Exception as error:  # a damaged or hostile pickle can raise nearly anything
        raise DataError(f"{path}: not a CIFAR-10 batch ({first_line(error)}); fetch it again") from error
    data = _entry(batch, "data")
    labels = _entry(batch, "labels")
    if not (isinstance(data, np.ndarray) and data.dtype == np.uint8 and data.shape[1:] == (3 * SIDE * SIDE,)):
        raise DataError(f"{path}: 'data' must be a uint8 array (N, {3 * SIDE * SIDE})")
    if not (isinstance(labels, list) and len(labels) == len(data)):
        raise DataError(f"{path}: 'labels' must be a list of {len(data)} integers, one for each image")
    for row, label in enumerate(labels):
        if not (type(label) is int and 0 <= label < CLASSES):
            raise DataError(
                f"{path}: labels must be integers in 0..{CLASSES - 1}, that of image {row} is {label!r:.40}"
            )
    return data.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1), np.array(labels, np.int64)


def _entry(batch: object, key: str) -> object:
    """Python 2 wrote the keys as bytes, Python 3 writes them as text."""
    return batch.get(key.encode(), batch.get(key)) if isinstance(batch, dict) else None


class _ArraysOnly(pickle.Unpickler):
    """Reads built-in values and numeric numpy arrays; refuses every other global, so nothing in the file is run."""

    def find_class(self, module: str, name: str) -> Any:
        reader = _READERS.get((module, name))
        if reader is None:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which a batch has no use for")
        return reader


def _empty_array(kind: type, shape: tuple[int, ...], _code: bytes) -> NDArray[Any]:
    if kind is not np.ndarray:
        raise pickle.UnpicklingError("arrays of a subclass are not read")
    return np.ndarray(shape, np.int8)


def _number_type(code: str | bytes, _align: object = False, _copy: object = True) -> np.dtype[Any]:
    """numpy >= 2.4 warns when old pickles give ``align`` and ``copy`` as 0 and 1, hence not ``np.dtype`` itself."""
    dtype = np.dtype(code.decode() if isinstance(code, bytes) else code)
    if dtype.kind not in "biuf":
        raise pickle.UnpicklingError(f"arrays of {dtype} are not read")
    return dtype


def _latin1(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes into a pickle of protocol 2."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes coded as {encoding} are not read")
    return text.encode("latin1")


_READERS = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): _number_type,
    ("numpy.core.multiarray", "_reconstruct"): _empty_array,
    ("numpy._core.multiarray", "_reconstruct"): _empty_array,
    ("_codecs", "encode"): _latin1,
}
