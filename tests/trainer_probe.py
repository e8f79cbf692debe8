"""A trainer's work on a tiny model, as a script: prints one JSON object.

Run by ``test_trainer_side.py`` under this Python and a board's; like what it tries, it keeps to Python 3.8.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cosp.models import SeriesShape, TextShape, TransformerShape, ViTShape
from cosp.submodel.budget import shape_for_rate
from cosp.submodel.flat import length, spans_of
from cosp.submodel.plan import prefix_plan
from cosp.submodel.selection import choose_plan, core_rolling
from cosp.submodel.shape import layout_of
from cosp.task.local import VIEWS, LocalSettings
from cosp.task.payload import scores_from_vector
from cosp.task.scoring import ScoreSettings
from cosp.task.serial import task_from_json, task_to_json
from cosp.task.task import Task
from cosp.task.training import TrainSettings
from cosp.trainer.samples import Samples
from cosp.trainer.store import open_store, write_store
from cosp.trainer.trainer import Trainer

IMAGES = ViTShape(image=8, patch=4, channels=1, classes=3, dim=16, blocks=2, heads=4, hidden=32, exits=(1, 2))
TEXTS = TextShape(vocabulary=9, length=5, classes=3, dim=16, blocks=2, heads=4, hidden=32, exits=(1, 2))

SERIES = SeriesShape(steps=12, patch=3, channels=2, classes=3, dim=16, blocks=2, heads=4, hidden=32, exits=(1, 2))


def samples(shape: TransformerShape, rng: np.random.Generator, count: int) -> Samples:
    if isinstance(shape, TextShape):
        x = rng.integers(0, shape.vocabulary, (count, shape.length)).astype(np.int32)
    else:
        x = rng.normal(size=(count, *shape.sample_shape)).astype(np.float32)
    return Samples(x, rng.integers(0, 3, count))


def work(shape: TransformerShape, trainer: Trainer, weights: np.ndarray) -> dict[str, Any]:
    """Score the full-width blocks, train the submodel that the scores choose, evaluate the model."""

    def run(kind: str, plan: Any, model: TransformerShape = shape, **more: Any) -> Any:
        task = Task(kind=kind, client=0, version=0, turn=0, seed=1, shape=model, plan=plan, **more)
        count = length(spans_of(layout_of(model), plan.counts))
        asked = task_from_json(task_to_json(task))
        return (asked, *trainer.run(asked, torch.from_numpy(weights[:count])))

    task, _, scores = run("score", shape.full_plan(), scoring=ScoreSettings(how="taylor", batch_size=8))
    found = scores_from_vector(scores, task)
    plan = choose_plan(shape, shape_for_rate(shape, 0.5), core_rolling(), scores=found, seed=1, client=0, turn=0)
    settings = TrainSettings(epochs=2, batch_size=8)
    _, trained, change = run("train", plan, training=settings)
    full, inner = shape.full_plan(), prefix_plan(plan.counts[0], plan.depth)
    _, judged, counts = run("evaluate", full, split="test", last=12)
    varied = {view: run("train", full, training=settings, local=LocalSettings(view=view, kept=0.7)) for view in VIEWS}
    varied["ordered"] = run("train", full, training=settings, local=LocalSettings(distillation=0.5), within=(inner,))
    for variant in ("adaptive", "quantised"):
        model, local = replace(shape, variant=variant), LocalSettings(penalty=1.0, target=0.5)
        varied[variant] = run("train", full, model, training=settings, local=local)
    squares = run("score", full, scoring=ScoreSettings(how="squared_gradient", batch_size=8))[2]
    return {
        "varied": [facts["loss"] for _, facts, _ in varied.values()],
        "squares": squares.tolist(),
        "scores": scores.tolist(),
        "units": plan.to_json(),
        "loss": trained["loss"],
        "change": change.tolist(),
        "losses": judged["losses"],
        "counted": int(counts.sum()),
    }


def probe(shape: TransformerShape) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    longest = layout_of(replace(shape, variant="adaptive"))
    weights = rng.normal(scale=0.2, size=length(spans_of(longest, shape.full_plan().counts)))
    with tempfile.TemporaryDirectory() as folder:
        rows, splits = np.arange(20), {"train": samples(shape, rng, 20), "test": samples(shape, rng, 12)}
        write_store(Path(folder), splits, [(rows[:16], rows[16:])])
        return work(shape, Trainer(*open_store(Path(folder))), weights.astype(np.float32))


def main() -> None:
    torch.set_num_threads(1)
    result = dict(probe(IMAGES), texts=probe(TEXTS), series=probe(SERIES))
    loaded = sorted(name for name, module in sys.modules.items() if module is not None and name.split(".")[0] == "cosp")
    print(json.dumps(dict(result, python=sys.version.split()[0], torch=torch.__version__, loaded=loaded)))


if __name__ == "__main__":
    main()
