"""Does an export say what the run said: logits of 256 test samples, side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cosp.checkpoints.own import final_model, read_facts, read_state
from cosp.config import load_config
from cosp.errors import CospError, UserError
from cosp.experiment import load_experiment
from cosp.export.chosen import Chosen
from cosp.models.flat import FlatModel
from cosp.models.text import TextShape
from cosp.run.directory import trained_config_of
from cosp.submodel.flat import flatten, spans_of
from cosp.submodel.shape import TransformerShape, layout_of
from cosp.submodel.slicing import extract
from cosp.trainer.samples import Samples
from cosp.trainer.trainer import count_predictions

COUNT = 256
TOLERANCE = 1e-5
BATCH = 32

Answers = Callable[[NDArray[Any]], Sequence[NDArray[np.float32]]]
"""Samples to the logits of each exit that is exported."""


class ExportDiffers(CospError):
    """What was exported does not compute what the run computed."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Samples to try an export on. ``test`` are the run's test data, None where they are not at hand: ``why``."""

    x: NDArray[Any]
    test: Samples | None
    why: str

    @property
    def said(self) -> str:
        if self.test is None:
            return f"{len(self.x)} random inputs, as the run's data are not at hand ({self.why})"
        return f"{len(self.x)} test samples"


def trial_of(chosen: Chosen, data_dir: Path | None) -> Trial:
    """Return the first of the run's test samples, else random ones."""
    try:
        experiment = load_experiment(load_config(trained_config_of(chosen.run)), data_dir=data_dir)
        test = experiment.splits["test"]
        x = np.asarray(test.x[:COUNT])
        if x.shape[1:] != chosen.facts.shape.sample_shape:
            raise UserError(f"they are of shape {x.shape[1:]} now")
    except CospError as error:
        return Trial(x=random_samples(chosen.facts.shape, COUNT), test=None, why=str(error))
    return Trial(x=x, test=test, why="")


def random_samples(shape: TransformerShape, count: int) -> NDArray[Any]:
    """Return normal values, or random words of which the ends are padding."""
    rng = np.random.default_rng(0)
    if not isinstance(shape, TextShape):
        return rng.standard_normal((count, *shape.sample_shape), dtype=np.float32)
    x = rng.integers(0, shape.vocabulary, (count, shape.length), dtype=np.int32)
    if shape.padding is not None:
        x[x == shape.padding] = (shape.padding + 1) % shape.vocabulary
        ends = rng.integers(1, shape.length + 1, count)
        x[np.arange(shape.length) >= ends[:, None]] = shape.padding
    return x


def run_s_model(chosen: Chosen) -> FlatModel:
    """Return the model as the run evaluates it: cut out of the whole global one, its tensors in one vector."""
    folder = final_model(chosen.run)
    facts, state = read_facts(folder / "cosp.json"), read_state(folder)
    layout, plan = layout_of(facts.shape), chosen.facts.plan
    model = FlatModel(facts.shape, plan, torch.device("cpu"), trains=False)
    model.load(flatten(extract(state, layout, plan), spans_of(layout, plan.counts)))
    return model


@torch.no_grad()
def reference(chosen: Chosen, x: NDArray[Any]) -> list[NDArray[np.float32]]:
    """Return the run's own logits of the exits that are exported."""
    module = run_s_model(chosen).module
    wanted = [module.exit_positions.index(after) for after in chosen.facts.exits]
    parts = [module(torch.from_numpy(x[i : i + BATCH])) for i in range(0, len(x), BATCH)]
    return [torch.cat([part[i] for part in parts]).numpy() for i in wanted]


def difference(wanted: Sequence[NDArray[np.float32]], got: Sequence[NDArray[np.float32]]) -> float:
    """Return the largest difference of two models' logits; infinite if they have other exits."""
    if [z.shape for z in wanted] != [z.shape for z in got]:
        return float("inf")
    largest = [float(np.abs(a - b).max()) for a, b in zip(wanted, got, strict=True)]
    return float("inf") if any(np.isnan(largest)) else max(largest)


def checked(wanted: Sequence[NDArray[np.float32]], answers: Answers, x: NDArray[Any], *, who: str, said: str) -> str:
    """Return how near ``answers`` is to what is ``wanted`` of ``x``, in words; ExportDiffers if it is not."""
    found = difference(wanted, answers(x))
    scale = max(1.0, max(float(np.abs(z).max()) for z in wanted))
    line = f"{who}: largest difference of logits from the run's own evaluation {found:.1e} on {said}"
    if not found <= TOLERANCE * scale:
        raise ExportDiffers(f"{line}, more than {TOLERANCE * scale:.0e}: do not use this export")
    return line


def measured_accuracy(chosen: Chosen, test: Samples) -> dict[int, float]:
    """Return the accuracy of each exit on the test data: what the run has not said of a board's submodel."""
    counts, _ = count_predictions(_flat(chosen), test)
    return {
        after: float(counts[i].diagonal().sum()) / max(1, int(counts[i].sum()))
        for i, after in enumerate(chosen.facts.exits)
    }


def _flat(chosen: Chosen) -> FlatModel:
    facts = chosen.facts
    layout = layout_of(facts.shape)
    spans = spans_of(layout, facts.plan.counts)
    model = FlatModel(facts.shape, facts.plan, torch.device("cpu"), trains=False)
    state: dict[str, Tensor] = {name: chosen.state[name] for name in spans}
    model.load(flatten(state, spans))
    return model
