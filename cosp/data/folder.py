"""The user's own images as files in folders named after their classes, with or without ``train/`` and ``test/`` above.

Images of one size are taken as they are, others are resized to ``image_size`` squares (aspect ratio not kept). Grey
stays grey if every image is; otherwise all become RGB, and transparency is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from cosp.data.class_names import named_labels
from cosp.data.image_files import UNREADABLE, ImageFiles
from cosp.data.images import Labelled, Source, checked_images
from cosp.errors import DataError

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
GREY = frozenset({"1", "L", "LA"})
DEEP = frozenset({"F", "I", "I;16", "I;16B", "I;16L"})  # more than 8 bits: PIL would clip them
SHUFFLE_SEED = 0  # files come class by class; without this, the first 1000 images would be of one class


def read_folder(folder: Path, *, name: str, image_size: int | None, stream: bool = False) -> Source:
    """All images below ``folder``, in an order shuffled once for all; DataError names the file that does not fit.

    With ``stream`` they stay in their files.
    """
    train_folder = folder / "train" if (folder / "train").is_dir() else folder
    classes = _subfolders(train_folder)
    if not classes:
        raise DataError(
            f"{train_folder}: no folders named after classes in it, and no train.npz or saved data set either"
        )
    train_files = _files(train_folder, classes)
    test_files: list[tuple[Path, int]] = []
    if train_folder != folder and (folder / "test").is_dir():
        strangers = sorted(set(_subfolders(folder / "test")) - set(classes))
        if strangers:
            raise DataError(f"{folder / 'test' / strangers[0]}: this class has no folder in {train_folder}")
        test_files = _files(folder / "test", _subfolders(folder / "test"), numbers=classes)
    shape = _common_shape([path for path, _ in train_files + test_files], image_size)
    read = _in_files if stream else _read
    train = read(train_files, shape, origin=str(train_folder))
    test = read(test_files, shape, origin=str(folder / "test")) if test_files else None
    return named_labels(name, classes, train, test)


def _subfolders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _files(folder: Path, names: Sequence[str], numbers: Sequence[str] | None = None) -> list[tuple[Path, int]]:
    """Image files with their class numbers; other files are passed over."""
    files: list[tuple[Path, int]] = []
    for name in names:
        found = sorted(path for path in (folder / name).iterdir() if path.suffix.lower() in SUFFIXES)
        if not found:
            raise DataError(f"{folder / name}: no images in this class folder ({', '.join(sorted(SUFFIXES))})")
        files += [(path, (numbers or names).index(name)) for path in found]
    return files


def _common_shape(paths: Sequence[Path], image_size: int | None) -> tuple[int, int, int]:
    """(H, W, C) that all images get; reads headers only."""
    first_size: tuple[int, int] | None = None
    grey = True
    for path in paths:
        size, mode = _size_and_mode(path)
        first_size = first_size or size
        if image_size is None and size != first_size:
            raise DataError(
                f"{path}: is {size[0]}x{size[1]}, {paths[0]} is {first_size[0]}x{first_size[1]}; "
                "set image_size to resize all to squares"
            )
        grey = grey and mode in GREY
    width, height = (image_size, image_size) if image_size is not None else first_size or (0, 0)
    return height, width, 1 if grey else 3


def _size_and_mode(path: Path) -> tuple[tuple[int, int], str]:
    try:
        with Image.open(path) as image:
            size, mode = image.size, image.mode
    except UNREADABLE as error:
        raise DataError(f"{path}: cannot be read as an image ({error})") from error
    if mode in DEEP:
        raise DataError(f"{path}: has more than 8 bits a channel (mode {mode}); convert it, or give the data as .npz")
    return size, mode


def _read(files: Sequence[tuple[Path, int]], shape: tuple[int, int, int], *, origin: str) -> Labelled:
    found = _in_files(files, shape, origin=origin)
    return checked_images(np.asarray(found.x), found.y, origin=origin)


def _in_files(files: Sequence[tuple[Path, int]], shape: tuple[int, int, int], *, origin: str) -> Labelled:
    order = np.random.default_rng(SHUFFLE_SEED).permutation(len(files))
    paths = tuple(files[place][0] for place in order)
    labels = np.array([files[place][1] for place in order], np.int64)
    return Labelled(x=ImageFiles(paths=paths, image=shape), y=labels, origin=origin)
