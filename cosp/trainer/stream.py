"""A board's own stream: what it meets after deployment, in the order of time, as the model reads it.

A folder of images in the order of their names, to which new ones may come while it is served; or an ``.npz`` with
``x``, and ``y`` where somebody labelled them: then the board counts how many it got right.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import List, NamedTuple, Optional, Protocol

import numpy as np

from cosp.errors import DataError, UserError
from cosp.images.class_folders import SUFFIXES
from cosp.recipe import Recipe
from cosp.trainer.own import numbers_of, prepared, prepared_images


class Came(NamedTuple):
    """Samples ``x`` as the model reads them, their labels (n,) if there are any, and the ``place`` behind them."""

    x: np.ndarray
    y: Optional[np.ndarray]
    place: int


class Stream(Protocol):
    """Samples have places, 0, 1, ..., in the order in which they come."""

    def since(self, place: int, most: int) -> Came:
        """Return what has come by now from ``place`` on, at most ``most`` samples."""


def open_stream(path: Path, recipe: Recipe) -> Stream:
    """Return the stream at ``path``, whose samples are to be as ``recipe`` says; UserError or DataError if they are
    not.
    """
    if path.is_dir():
        if recipe.kind != "images":
            raise DataError(f"--stream {path}: is a folder, the model reads {recipe.kind}; give an .npz of them")
        return Pictures(path, recipe)
    if not path.exists():
        raise UserError(f"--stream {path}: there is nothing; give a folder of images, or an .npz with x")
    return _arrays(path, recipe)


class Arrays:
    """Samples that are all there; ``y`` None: nobody labelled them."""

    def __init__(self, x: np.ndarray, y: Optional[np.ndarray]) -> None:
        self._x, self._y = x, y

    def since(self, place: int, most: int) -> Came:
        last = min(len(self._x), place + most)
        return Came(self._x[place:last], None if self._y is None else self._y[place:last], max(place, last))


class Pictures:
    """The images in a folder. The last one may still be being written: if it cannot be read, it has not come yet."""

    def __init__(self, folder: Path, recipe: Recipe) -> None:
        self._folder, self._recipe = folder, recipe

    def since(self, place: int, most: int) -> Came:
        names = sorted(path.name for path in self._folder.iterdir() if _is_picture(path))
        found: List[np.ndarray] = []
        for name in names[place:]:
            if len(found) == most:
                break
            try:
                found.append(prepared_images([(name, self._folder / name)], self._recipe)[0])
            except DataError as error:
                if name == names[-1]:
                    break
                print(f"trainer: --stream: passed over: {error}", file=sys.stderr, flush=True)
            place += 1
        shape = (0, *self._recipe.sample_shape)
        return Came(np.stack(found) if found else np.zeros(shape, np.float32), None, place)


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _arrays(path: Path, recipe: Recipe) -> Arrays:
    try:
        with np.load(path) as file:
            x = file["x"]
            y = file.get("y")
            classes = [str(name) for name in file["classes"]] if "classes" in file else None
        if x.ndim < 1 or (y is not None and y.shape != (len(x),)):
            raise ValueError(f"y must be a label each, got {'none' if y is None else y.shape} for {x.shape}")
        names = None if y is None else [str(one) if classes is None else classes[int(one)] for one in y]
    except Exception as error:  # a damaged file can raise nearly anything
        raise DataError(
            f"--stream {path}: is no folder of images and no .npz with x ({error}); give one of these"
        ) from None
    labels = None if names is None else numbers_of(names, recipe, f"--stream {path}")
    return Arrays(prepared(x, recipe, f"--stream {path}"), labels)
