"""Hugging Face data sets, saved on disk or by name: their images here, their texts in ``hub_texts``."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cosp.data.class_names import named_labels, numbered_labels
from cosp.data.columns import OF_IMAGES, ChosenColumns, Columns, chosen_columns
from cosp.data.hub_texts import has_texts, hub_texts
from cosp.data.images import Labelled, Source, checked_images
from cosp.data.labels import check_labels
from cosp.errors import DataError
from cosp.images.decoder import GREY, Encoded, Shape, common_shape, decoded
from cosp.images.faults import first_line
from cosp.images.split_names import by_role

SAVED_MARKS = ("dataset_dict.json", "dataset_info.json", "state.json")  # what `save_to_disk` leaves in its folder
SHUFFLE_SEED = 0  # data sets on the hub are often sorted by class


def is_saved(folder: Path) -> bool:
    """Whether ``save_to_disk`` of Hugging Face datasets wrote this folder."""
    return any((folder / mark).is_file() for mark in SAVED_MARKS)


def read_saved(folder: Path, *, name: str, image_size: int | None, columns: Columns) -> Source:
    """A data set that ``save_to_disk`` wrote."""
    import datasets  # type: ignore[import-untyped]  # about a second

    try:
        found = datasets.load_from_disk(str(folder))
    except Exception as error:  # damaged files surface as errors of pyarrow, json or datasets itself
        raise DataError(f"{folder}: cannot be read as a saved Hugging Face data set ({first_line(error)})") from error
    return _source(found, name=name, origin=str(folder), image_size=image_size, columns=columns)


def read_named(repository: str, *, name: str, image_size: int | None, columns: Columns) -> Source:
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
    return _source(found, name=name, origin=f"hf:{repository}", image_size=image_size, columns=columns)


def _source(found: Any, *, name: str, origin: str, image_size: int | None, columns: Columns) -> Source:
    splits = dict(found) if isinstance(found, dict) else {"train": found}
    roles = by_role(splits, origin=origin)
    if "train" not in roles:
        raise DataError(f"{origin}: a split named 'train' is needed, found {sorted(splits)}")
    features = splits[roles["train"]].features
    if has_texts(features, columns):
        return hub_texts(splits, roles, name=name, origin=origin, columns=columns)
    chosen = chosen_columns(features, columns, origin=origin)
    parts = {role: (splits[split], f"{origin} ({split})") for role, split in roles.items()}
    for part, where in parts.values():
        if not len(part):
            raise DataError(f"{where}: there must be at least one image")
    encoded = (pair for part, where in parts.values() for pair in _encoded(part, chosen.image, origin=where))
    height, width, channels = common_shape(encoded, image_size)
    mode = getattr(features[chosen.image], "mode", None)  # what the set makes of its images, if it says so
    shape = (height, width, channels if mode is None else 1 if mode in GREY else 3)
    read = {role: _read(part, chosen, shape, origin=where) for role, (part, where) in parts.items()}
    classes = getattr(features[chosen.label], "names", None)
    others = read.get("test"), read.get("validation")
    if classes is None:
        if columns.label is None:
            _refuse_names(read["train"], chosen.label)
        source = numbered_labels(name, read["train"], *others)
    else:
        source = named_labels(name, classes, read["train"], *others)
    unused = sorted(set(splits) - set(roles.values()))
    notes = tuple(f"{origin}: split '{split}' is not used" for split in unused)
    return replace(source, resizable=True, columns=OF_IMAGES, notes=notes)


def _refuse_names(samples: Labelled, column: str) -> None:
    """DataError if what was taken for labels names nearly every sample, as captions and files' names do."""
    values = len(np.unique(samples.y))
    if 2 * values > len(samples):
        raise DataError(
            f"{samples.origin}: column '{column}' has {values} values for {len(samples)} images, which are hardly "
            "classes; name the column of labels by data.label"
        )


def _read(part: Any, columns: ChosenColumns, shape: Shape, *, origin: str) -> Labelled:
    """Images, labels and clients of one split, shuffled once and for all."""
    x = np.empty((len(part), *shape), np.uint8)
    for row, (where, encoded) in enumerate(_encoded(part, columns.image, origin=origin)):
        x[row] = decoded(encoded, shape, origin=where)
    images = checked_images(x, np.array(part[columns.label][:]), origin=origin)
    if columns.client is not None and columns.client in part.features:
        clients = np.array(part[columns.client][:])
        check_labels(clients, origin=f"{origin}: {columns.client}")
        images = replace(images, clients=clients)
    return images.rows(np.random.default_rng(SHUFFLE_SEED).permutation(len(images)))


def _encoded(part: Any, column: str, *, origin: str) -> Iterator[tuple[str, Encoded]]:
    """Name and content of each image of one split; DataError names one that is not there."""
    import datasets

    if isinstance(part.features[column], datasets.Image):
        part = part.cast_column(column, datasets.Image(decode=False))  # our decoder reads headers, and turns images
    values = iter(part.select_columns([column])[column])
    for row in range(len(part)):
        where = f"{origin}: image {row}"
        try:
            yield where, _content(next(values))
        except DataError:
            raise
        except Exception as error:  # damaged rows surface as nearly anything
            raise DataError(f"{where}: cannot be read as an image ({first_line(error)}); mend or remove it") from error


def _content(value: Any) -> Encoded:
    """What a row holds: a file's bytes, a path or address, or both in a dict."""
    path, content = (value.get("path"), value.get("bytes")) if isinstance(value, dict) else (value, value)
    if isinstance(content, bytes):
        return content
    if not isinstance(path, str):
        raise ValueError("there is none" if path is None else f"it is a {type(path).__name__}")
    if "://" not in path:
        return Path(path)
    import fsspec  # type: ignore[import-untyped]  # comes with datasets

    with fsspec.open(path, "rb") as file:
        return bytes(file.read())
