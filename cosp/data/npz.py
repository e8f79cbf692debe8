"""The user's own data as ``.npz``: ``x`` and ``y`` (N,), with or without ``x_test`` and ``y_test``.

``x`` is images (N, H, W[, C]), or texts (N, T): integers, the numbers of their words.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cosp.data.faults import first_line
from cosp.data.images import Labelled, Source, checked_images, named_labels, numbered_labels
from cosp.data.texts import checked_texts
from cosp.errors import DataError


def read_npz(path: Path, *, name: str) -> Source:
    """One file; ``classes`` in it, if any, names labels 0, 1, ...; otherwise the labels that occur are the classes."""
    arrays = read_arrays(path)
    has_test = "x_test" in arrays or "y_test" in arrays
    test = _images(arrays, path, suffix="_test") if has_test else None
    return _source(name, _images(arrays, path), test, arrays.get("classes"))


def read_npz_pair(folder: Path, *, name: str) -> Source:
    """``train.npz`` and ``test.npz`` of a folder, each with ``x`` and ``y``; ``classes`` stands in the former."""
    arrays = read_arrays(folder / "train.npz")
    return _source(name, _images(arrays, folder / "train.npz"), read_images(folder / "test.npz"), arrays.get("classes"))


def read_images(path: Path) -> Labelled:
    """``x`` and ``y`` of one file, labels as they stand there."""
    return _images(read_arrays(path), path)


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of ``path``; pickled objects are refused."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except Exception as error:  # a damaged member can raise nearly anything; a plain .npy has no `files`
        raise DataError(
            f"{path}: cannot be read as .npz ({first_line(error)}); write it with numpy.savez(path, x=..., y=...)"
        ) from error


def _images(arrays: Mapping[str, NDArray[Any]], path: Path, suffix: str = "") -> Labelled:
    for key in (f"x{suffix}", f"y{suffix}"):
        if key not in arrays:
            raise DataError(
                f"{path}: array '{key}' is missing, found {sorted(arrays)}; it needs images x (N, H, W[, C]) or texts "
                "x (N, T), and labels y (N,)"
            )
    x, y = arrays[f"x{suffix}"], arrays[f"y{suffix}"]
    return checked_texts(x, y, origin=str(path)) if x.ndim == 2 else checked_images(x, y, origin=str(path))


def _source(name: str, train: Labelled, test: Labelled | None, classes: NDArray[Any] | None) -> Source:
    if classes is None:
        return numbered_labels(name, train, test)
    if classes.ndim != 1 or classes.dtype.kind != "U":
        raise DataError(
            f"{train.origin}: 'classes' must be an array of texts (C,), got {classes.dtype} of {classes.shape}"
        )
    return named_labels(name, [str(value) for value in classes], train, test)
