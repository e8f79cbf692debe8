"""Data with labels, as a trained model reads and numbers them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cosp.checkpoints.own import final_model
from cosp.config import load_config
from cosp.data.columns import Columns
from cosp.data.image_files import ImageFiles
from cosp.data.images import Labelled, Source
from cosp.data.sources import read_source
from cosp.errors import UserError
from cosp.experiment import load_experiment
from cosp.predict.opened import Opened
from cosp.predict.prepared import prepared
from cosp.run.directory import trained_config_of

Data = tuple[NDArray[Any], NDArray[np.int64], str]
"""Prepared samples, their classes, and what they are."""


def labelled(model: Opened, name: str | None, *, data_dir: Path | None, columns: Columns) -> Data:
    """Return the test samples of the data set ``name``, of the run itself if that is None.

    A set without a test split gives its validation split, one with neither all that it has. Classes go by their names;
    UserError names one that the model does not know.
    """
    if name is None:
        return _own(model, data_dir)
    kind, shape = model.facts.reading.kind, model.facts.shape
    image_size = shape.sample_shape[-1] if kind == "images" else None
    asked: Any = "series" if kind == "series" else None
    source = read_source(name, data_dir=data_dir, image_size=image_size, columns=columns, kind=asked)
    found, what = _split(source)
    x = np.asarray(found.x) if isinstance(found.x, ImageFiles) else found.x
    ready = prepared(model, x, origin=found.origin, from_files=source.resizable)
    return ready, _numbers(model, found, source.classes), f"{source.name}, {what}"


def _split(source: Source) -> tuple[Labelled, str]:
    if source.test is not None:
        return source.test, "its test split"
    if source.validation is not None:
        return source.validation, "its validation split"
    return source.train, "all of it"


def _numbers(model: Opened, found: Labelled, classes: tuple[str, ...]) -> NDArray[np.int64]:
    known = {name: number for number, name in enumerate(model.facts.classes)}
    occurring = [classes[number] for number in np.unique(found.y)]
    for name in occurring:
        if name not in known:
            raise UserError(
                f"{found.origin}: class {name!r} is none of the model's: {', '.join(model.facts.classes)}; leave such "
                "samples out, or rename the class"
            )
    table = np.array([known.get(name, -1) for name in classes], np.int64)
    return np.asarray(table[found.y])


def _own(model: Opened, data_dir: Path | None) -> Data:
    if not (model.path / "rows.jsonl").is_file():
        raise UserError(f"{model.path}: is no run, which has test data of its own; give --data")
    final_model(model.path)
    experiment = load_experiment(load_config(trained_config_of(model.path)), data_dir=data_dir)
    test = experiment.splits["test"]
    return np.asarray(test.x), test.y, f"{experiment.dataset.name}, the run's test data"
