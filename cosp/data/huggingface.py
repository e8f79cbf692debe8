"""Hugging Face data sets, saved on disk or by name; columns are found by their declared types, Image and ClassLabel."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cosp.data.class_names import named_labels
from cosp.data.faults import first_line
from cosp.data.folder import DEEP, GREY
from cosp.data.image_files import pixels
from cosp.data.images import Labelled, Source, checked_images
from cosp.errors import DataError

SAVED_MARKS = ("dataset_dict.json", "dataset_info.json", "state.json")  # what `save_to_disk` leaves in its folder
TEST_NAMES = ("test", "validation")  # the first one present is the test split
SHUFFLE_SEED = 0  # data sets on the hub are often sorted by class


def is_saved(folder: Path) -> bool:
    """Whether ``save_to_disk`` of Hugging Face datasets wrote this folder."""
    return any((folder / mark).is_file() for mark in SAVED_MARKS)


def read_saved(folder: Path, *, name: str, image_size: int | None) -> Source:
    """A data set that ``save_to_disk`` wrote."""
    import datasets  # type: ignore[import-untyped]  # about a second

    try:
        found = datasets.load_from_disk(str(folder))
    except Exception as error:  # damaged files surface as errors of pyarrow, json or datasets itself
        raise DataError(f"{folder}: cannot be read as a saved Hugging Face data set ({first_line(error)})") from error
    return _source(found, name=name, origin=str(folder), image_size=image_size)


def read_named(repository: str, *, name: str, image_size: int | None) -> Source:
    """A data set of the hub (or of its cache on this machine); the only reader that uses the network."""
    import datasets

    logger = logging.getLogger("huggingface_hub")  # would print every retry; the one line below says enough
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        found = datasets.load_dataset(repository)
    except Exception as error:  # no network, no such data set, a gated one: httpx, huggingface_hub and datasets errors
        raise DataError(
            f"{name}: no such folder here, and Hugging Face gave none ({first_line(error)}); put its files into a "
            f"folder and point --data-dir DIR or COSP_DATA_DIR at it, or go online for hf:{repository}"
        ) from error
    finally:
        logger.setLevel(level)
    return _source(found, name=name, origin=f"hf:{repository}", image_size=image_size)


def _source(found: Any, *, name: str, origin: str, image_size: int | None) -> Source:
    splits = dict(found) if isinstance(found, dict) else {"train": found}
    if "train" not in splits:
        raise DataError(f"{origin}: a split named 'train' is needed, found {sorted(splits)}")
    test_name = next((split for split in TEST_NAMES if split in splits), None)
    image_column, label_column = _columns(splits["train"].features, origin=origin)
    classes = splits["train"].features[label_column].names
    rows = {split: splits[split] for split in ("train", test_name) if split is not None}
    shape = _common_shape(rows, image_column, origin=origin, image_size=image_size)
    images = {
        split: _read(part, image_column, label_column, shape, origin=f"{origin} ({split})")
        for split, part in rows.items()
    }
    return named_labels(name, classes, images["train"], None if test_name is None else images[test_name])


def _columns(features: Any, *, origin: str) -> tuple[str, str]:
    """Names of the one image column and the one label column."""
    import datasets

    found = []
    for kind in (datasets.Image, datasets.ClassLabel):
        names = [column for column, feature in features.items() if isinstance(feature, kind)]
        if len(names) != 1:
            raise DataError(
                f"{origin}: exactly one column of type {kind.__name__} is needed, got {names} of {sorted(features)}"
            )
        found.append(names[0])
    return found[0], found[1]


def _common_shape(splits: dict[str, Any], column: str, *, origin: str, image_size: int | None) -> tuple[int, int, int]:
    """(H, W, C) that all images get."""
    sizes: set[tuple[int, int]] = set()
    modes: set[str] = set()
    for split, part in splits.items():
        if not len(part):
            raise DataError(f"{origin} ({split}): there must be at least one image")
        for image in _decoded(part, column, origin=f"{origin} ({split})"):
            sizes.add(image.size)
            modes.add(image.mode)
    if modes & DEEP:
        raise DataError(
            f"{origin}: images of more than 8 bits a channel ({sorted(modes & DEEP)}); give the data as .npz"
        )
    if image_size is None and len(sizes) > 1:
        raise DataError(f"{origin}: images have {len(sizes)} sizes; set image_size to resize all to squares")
    width, height = (image_size, image_size) if image_size is not None else sizes.pop()
    return height, width, 1 if modes <= GREY else 3


def _read(part: Any, image_column: str, label_column: str, shape: tuple[int, int, int], *, origin: str) -> Labelled:
    """Images and labels of one split, shuffled once and for all."""
    x = np.empty((len(part), *shape), np.uint8)
    for row, image in enumerate(_decoded(part, image_column, origin=origin)):
        x[row] = pixels(image, shape)
    images = checked_images(x, np.array(part[label_column][:]), origin=origin)
    return images.rows(np.random.default_rng(SHUFFLE_SEED).permutation(len(images)))


def _decoded(part: Any, column: str, *, origin: str) -> Iterator[Any]:
    """The images of one split; DataError names one that is not there or cannot be decoded."""
    images = iter(part[column])
    for row in range(len(part)):
        try:
            image = next(images)
            if image is None:
                raise ValueError("there is none")
        except Exception as error:  # damaged images surface as nearly anything
            raise DataError(f"{origin}: image {row} cannot be read ({first_line(error)}); mend or remove it") from error
        yield image
