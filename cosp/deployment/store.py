"""From an experiment to what a board's trainer reads: samples normalised as the server's are, labels in its order."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cosp.data import Dataset, Split
from cosp.data.images import Labelled, Source
from cosp.data.sources import read_source
from cosp.data.tokenizers import FILE
from cosp.errors import DataError, UserError
from cosp.experiment import Experiment, columns_of
from cosp.recipe import Recipe
from cosp.run.recipe import recipe_of
from cosp.seeds import stream_seed
from cosp.stratified import hold_back
from cosp.trainer.samples import ClientSamples, Samples
from cosp.trainer.store import BoardStore, Rows, write_board_store


def write_shares(experiment: Experiment, folder: Path) -> list[Path]:
    """Write what the experiment's partition gives each client as ``folder/CLIENT`` and return those folders."""
    found, recipe = [], recipe_of(experiment)
    for client, rows in enumerate(experiment.rows):
        found.append(folder / str(client))
        _write(found[-1], experiment.dataset.train, rows, experiment.dataset, recipe)
    return found


def own_source(experiment: Experiment, name: str, data_dir: Path | None) -> Source:
    """Read a board's own data, a path or any data set's name, as the experiment reads its own."""
    data = experiment.config.data
    columns = columns_of(data)
    return read_source(name, data_dir=data_dir, image_size=data.image_size, columns=columns, kind=data.kind)


def write_own(experiment: Experiment, source: Source, folder: Path) -> Path:
    """Write a board's own samples, ``data.local_test`` of them held back, and return ``folder``.

    DataError if they do not suit the model.
    """
    config = experiment.config
    split = experiment.dataset.normalised(_with_labels_of(experiment.dataset, source))
    seed = stream_seed(config.seed, "local test", source.name)
    rows = hold_back(np.arange(len(split)), split.y, config.data.local_test, seed, owner=source.train.origin)
    _write(folder, split, rows, experiment.dataset, recipe_of(experiment))
    return folder


def _write(folder: Path, split: Split, rows: Rows, dataset: Dataset, recipe: Recipe) -> None:
    """Write a store; with it the tokenizer that cut its texts into words, for texts that the board has later."""
    train, test = (Samples(split.x[part], split.y[part]) for part in rows)
    write_board_store(folder, BoardStore(ClientSamples(train, test), recipe))
    if dataset.tokenizer is not None:
        (folder / FILE).write_text(dataset.tokenizer.text, encoding="utf-8")


def _with_labels_of(dataset: Dataset, source: Source) -> Labelled:
    """Return the training samples of ``source``, their classes found by name among the data set's."""
    unknown = [name for name in source.classes if name not in dataset.classes]
    if unknown:
        known = ", ".join(dataset.classes)
        raise DataError(f"{source.train.origin}: class {unknown[0]!r} is none of {dataset.name}'s: {known}")
    numbers = np.array([dataset.classes.index(name) for name in source.classes])
    return Labelled(x=source.train.x, y=numbers[source.train.y], origin=source.train.origin)


def refuse_inside_data(out: Path, *names: str | None) -> None:
    """UserError if ``out`` lies in a folder of data, where the next reader would take stores for classes."""
    inside = {out.resolve(), *out.resolve().parents}
    for name in filter(None, names):
        if Path(name).is_dir() and Path(name).resolve() in inside:
            raise UserError(f"{out}: lies in the data {name}, which would hold stores for classes; give another --out")
