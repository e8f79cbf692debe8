"""From the labels of a source to the numbers of its classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cosp.data.images import Labelled, Source
from cosp.errors import DataError
from cosp.files import shown_name


def named_labels(
    name: str, classes: Sequence[str], train: Labelled, test: Labelled | None, validation: Labelled | None = None
) -> Source:
    """A source whose labels become indices into ``classes``: texts name one, integers count from 0.

    DataError if one is neither, or if two classes have one name.
    """
    numbers = {known: number for number, known in enumerate(classes)}
    shown = [shown_name(known) for known in classes]
    twice = next((known for row, known in enumerate(shown) if known in shown[:row]), None)
    if twice is not None:
        raise DataError(f"{train.origin}: two classes are called {twice!r}; give one of them another name")

    def index(labels: NDArray[Any], origin: str) -> NDArray[np.int64]:
        if labels.dtype.kind == "U":
            strange = sorted(set(labels.tolist()) - set(numbers))
            if strange:
                raise DataError(f"{origin}: label {strange[0]!r} is none of the classes {', '.join(shown)}")
            return np.array([numbers[label] for label in labels.tolist()], np.int64)
        if not (labels.min() >= 0 and labels.max() < len(classes)):
            raise DataError(f"{origin}: labels must lie in 0..{len(classes) - 1}, got {labels.min()}..{labels.max()}")
        return labels.astype(np.int64)

    return _source(name, shown, index, train, test, validation)


def numbered_labels(name: str, train: Labelled, test: Labelled | None, validation: Labelled | None = None) -> Source:
    """A source whose classes are the labels that occur in ``train``, in rising order and named by themselves."""
    values = np.unique(train.y)

    def index(labels: NDArray[Any], origin: str) -> NDArray[np.int64]:
        if (labels.dtype.kind == "U") != (values.dtype.kind == "U"):
            raise DataError(f"{origin}: labels are {labels.dtype}, those of the training data {values.dtype}")
        unknown = np.setdiff1d(labels, values)
        if len(unknown):
            raise DataError(f"{origin}: label {unknown[0]} does not occur in the training data {train.origin}")
        return np.searchsorted(values, labels).astype(np.int64)

    return _source(name, [str(value) for value in values], index, train, test, validation)


def _source(
    name: str,
    classes: Sequence[str],
    index: Callable[[NDArray[Any], str], NDArray[np.int64]],
    *parts: Labelled | None,
) -> Source:
    train, test, validation = (part and replace(part, y=index(part.y, part.origin)) for part in parts)
    assert train is not None
    return Source(name=shown_name(name), classes=tuple(classes), train=train, test=test, validation=validation)
