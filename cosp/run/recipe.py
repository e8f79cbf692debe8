"""How an experiment's samples were made: what its boards' stores are made by and compared with."""

from __future__ import annotations

from typing import Any

import numpy as np

from cosp.data import Dataset
from cosp.experiment import Experiment
from cosp.recipe import Recipe, mark_of

LOOKED_AT = 1000
"""So many samples tell in which units pixels are."""


def recipe_of(experiment: Experiment) -> Recipe:
    """Return how the samples of ``experiment`` were made."""
    dataset, config = experiment.dataset, experiment.config
    scaled = dataset.kind != "texts" and not dataset.declared
    return Recipe(
        classes=dataset.classes,
        sample_shape=tuple(map(int, dataset.sample_shape)),
        mean=tuple(map(float, dataset.mean)) if scaled else None,
        std=tuple(map(float, dataset.std)) if scaled else None,
        white=white_of(dataset) if scaled and dataset.kind == "images" else None,
        tokenizer=None if dataset.tokenizer is None else mark_of(dataset.tokenizer.text),
        vocabulary=dataset.vocabulary,
        local_test=config.data.local_test,
        seed=config.seed,
        data=dataset.name,
    )


def white_of(dataset: Dataset) -> float:
    """Return what a white pixel is in the training data: 255 as in files, else the 1 or 16 that arrays go up to."""
    if dataset.resizable:
        return 255.0
    seen: Any = np.asarray(dataset.train.x[:LOOKED_AT])
    last = (len(dataset.std), 1, 1)
    largest = float((seen * np.reshape(dataset.std, last) + np.reshape(dataset.mean, last)).max())
    return next((white for white in (1.0, 16.0) if largest <= white * 1.001), 255.0)
