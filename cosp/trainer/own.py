"""A board's own photos, or arrays of them or of series, as a store: made where they are, by the server's recipe.

Needs numpy, and Pillow for photos, and no torch. Texts are cut into words where cosp is installed: ``cosp store``.
"""

from __future__ import annotations

from pathlib import Path
from typing import List, NamedTuple, Sequence, Tuple, Union

import numpy as np

from cosp.errors import DataError, UserError
from cosp.images.pixels import channels_first, normalise
from cosp.recipe import Recipe
from cosp.seeds import stream_seed
from cosp.stratified import hold_back
from cosp.trainer.samples import ClientSamples, Samples
from cosp.trainer.store import BoardStore, write_board_store

WHITE = 255.0
"""A white pixel of an image's file."""
AT_ONCE = 1024
"""Series that are held in float64 at a time."""


class Own(NamedTuple):
    """Samples as the model reads them, and each one's class by name."""

    x: np.ndarray
    names: Sequence[str]


def write_own_store(source: Path, recipe: Recipe, out: Path) -> Tuple[int, int]:
    """Write the samples in ``source`` as ``recipe`` says into ``out``; return how many train and are held back.

    ``source``: a folder of a folder of images per class, or an ``.npz`` with ``x``, ``y`` and, where ``y`` are numbers,
    ``classes``. DataError if its samples are not for the recipe's model.
    """
    if recipe.kind == "texts":
        raise UserError(
            f"{source}: the model reads texts, which `cosp store CONFIG --own` cuts into words; make it there"
        )
    if out.resolve() == source.resolve() or source.resolve() in out.resolve().parents:
        raise UserError(f"{out}: lies in the data {source}, where it would be read as a class; give another --out")
    own = _photos(source, recipe) if source.is_dir() else _arrays(source, recipe)
    y = numbers_of(own.names, recipe, str(source))
    seed = stream_seed(recipe.seed, "local test", source.stem)
    parts = hold_back(np.arange(len(y)), y, recipe.local_test, seed, owner=str(source))
    train, test = (Samples(own.x[rows], y[rows]) for rows in parts)
    write_board_store(out, BoardStore(ClientSamples(train, test), recipe))
    return len(train.y), len(test.y)


def numbers_of(names: Sequence[str], recipe: Recipe, origin: str) -> np.ndarray:
    """Return the numbers of classes, int64; DataError names ``origin`` if the recipe does not know one of ``names``."""
    numbers = {name: number for number, name in enumerate(recipe.classes)}
    strange = sorted(set(names) - set(numbers))
    if strange:
        raise DataError(f"{origin}: class {strange[0]!r} is none of the run's: {', '.join(recipe.classes)}")
    return np.array([numbers[name] for name in names], np.int64)


def _photos(folder: Path, recipe: Recipe) -> Own:
    """Read the images in folders named after their classes, each made as large as the model reads them."""
    if recipe.kind != "images":
        raise DataError(f"{folder}: is a folder, the model reads {recipe.kind}; give an .npz of them")
    from cosp.images.class_folders import images_below, subfolders

    classes = subfolders(folder)
    if not classes:
        raise DataError(f"{folder}: no folders named after classes in it; the run's are {', '.join(recipe.classes)}")
    found = images_below(folder, classes, by_client=False)
    pictures = [(str(image.path), image.path) for image in found]
    return Own(prepared_images(pictures, recipe), [classes[image.label] for image in found])


def prepared_images(pictures: Sequence[Tuple[str, Union[Path, bytes]]], recipe: Recipe) -> np.ndarray:
    """Return encoded images (name, content), each made as large as the model reads them, as it reads them."""
    if recipe.kind != "images":
        raise DataError(f"{pictures[0][0]}: the model reads {recipe.kind}, no images")
    try:
        from cosp.images.decoder import decoded
    except ImportError as error:
        raise UserError(f"reading images takes Pillow ({error}); install it: python3 -m pip install pillow") from None
    channels, height, width = recipe.sample_shape
    x = np.empty((len(pictures), height, width, channels), np.uint8)
    for row, (origin, encoded) in enumerate(pictures):
        x[row] = decoded(encoded, (height, width, channels), origin=origin)
    pixels = channels_first(x)
    pixels *= np.float32((recipe.white or WHITE) / WHITE)
    return normalise(pixels, *_scaling(recipe))


def _arrays(path: Path, recipe: Recipe) -> Own:
    try:
        with np.load(path) as file:
            x, y = file["x"], file["y"]
            classes = [str(name) for name in file["classes"]] if "classes" in file else None
        if x.dtype.kind not in "buif" or y.ndim != 1 or len(x) != len(y):
            raise ValueError(f"x must be numbers and y a label each, got {x.dtype} {x.shape} and {y.shape}")
        names = [str(label) if classes is None or y.dtype.kind == "U" else classes[int(label)] for label in y]
    except Exception as error:  # a damaged file can raise nearly anything
        raise DataError(
            f"{path}: is no folder of images and no .npz with x and y ({error}); give one of these"
        ) from None
    return Own(prepared(x, recipe, str(path)), names)


def prepared(x: np.ndarray, recipe: Recipe, origin: str) -> np.ndarray:
    """Return images or series, channels last, as the model reads them, or word numbers; units are the server's.

    DataError names ``origin`` if the model reads no such.
    """
    if x.dtype.kind not in "buif":
        raise DataError(f"{origin}: must be numbers, got {x.dtype}")
    wanted = raw_shape(recipe)
    if recipe.kind != "texts" and x.shape[1:] == wanted[:-1] and wanted[-1] == 1:
        x = x[..., np.newaxis]
    if x.shape[1:] != wanted:
        raise DataError(f"{origin}: samples are {x.shape[1:]}, the model reads {recipe.kind} of {wanted}")
    if not np.isfinite(x).all():
        raise DataError(f"{origin}: holds NaN or infinity; fill such gaps or leave these samples out")
    if recipe.kind == "texts":
        if x.dtype.kind not in "iu" or x.min() < 0 or x.max() >= (recipe.vocabulary or 0):
            raise DataError(f"{origin}: words must be whole numbers in 0..{(recipe.vocabulary or 0) - 1}")
        return x.astype(np.int32)
    mean, std = _scaling(recipe)
    if recipe.kind == "images":
        return normalise(channels_first(x), mean, std)
    parts: List[np.ndarray] = [
        ((x[start : start + AT_ONCE].astype(np.float64) - mean) / std).astype(np.float32)
        for start in range(0, len(x), AT_ONCE)
    ]
    return np.concatenate(parts)


def raw_shape(recipe: Recipe) -> Tuple[int, ...]:
    """Return the shape of a raw sample: channels come last, as sources have them."""
    shape = recipe.sample_shape
    return (*shape[1:], shape[0]) if recipe.kind == "images" else shape


def _scaling(recipe: Recipe) -> Tuple[np.ndarray, np.ndarray]:
    if recipe.mean is None or recipe.std is None:
        raise UserError("the recipe does not say how samples are normalised; get it anew: cosp server recipe CONFIG")
    return np.array(recipe.mean), np.array(recipe.std)
