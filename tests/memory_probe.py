"""Whole tasks on a model of 14 million parameters, as a script: prints JSON, of each what was predicted and used.

Run by ``trainer/test_resident.py`` in a process of its own, whose C library gives freed blocks back.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from cosp.models import ViTShape
from cosp.submodel.plan import prefix_plan
from cosp.submodel.shape import TransformerShape
from cosp.task.compression import CompressionSettings
from cosp.task.demand import EVALUATION_BATCH, peak_memory_bytes
from cosp.task.payload import from_payload, to_payload
from cosp.task.scoring import ScoreSettings
from cosp.task.task import Task
from cosp.task.training import TrainSettings
from cosp.trainer.samples import ClientSamples, Samples
from cosp.trainer.trainer import Trainer

LARGE = ViTShape(image=32, patch=8, channels=3, classes=10, dim=384, blocks=8, heads=6, hidden=1536, exits=(2, 4, 6, 8))
TINY = ViTShape(image=4, patch=2, channels=1, classes=10, dim=4, blocks=1, heads=1, hidden=4, exits=(1,))
BATCH = 8


def data(shape: ViTShape, count: int) -> Samples:
    rng = np.random.default_rng(0)
    images = rng.normal(size=(count, shape.channels, shape.image, shape.image)).astype(np.float32)
    return Samples(images, rng.integers(0, 10, count))


def asked(kind: str, shape: TransformerShape, optimizer: str = "adamw") -> Task:
    return Task(
        kind, 0, 0, 0, 0, shape, prefix_plan(shape.sizes, shape.blocks), split="test", last=EVALUATION_BATCH,
        training=TrainSettings(epochs=1, batch_size=BATCH, optimizer=optimizer),
        compression=CompressionSettings(up="int8"), scoring=ScoreSettings(samples=BATCH, batch_size=BATCH),
    )  # fmt: skip


def tasks(shape: TransformerShape) -> dict[str, Task]:
    train = {f"train {optimizer}": asked("train", shape, optimizer) for optimizer in ("sgd", "adamw")}
    return {"evaluate": asked("evaluate", shape), "score": asked("score", shape), **train}


def resident_bytes(key: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(key))


def used_by(trainer: Trainer, task: Task) -> int:
    """Return how far the process grew at most while ``task`` was done and its result put into bytes."""
    before = resident_bytes("VmRSS:")
    facts, vector = trainer.run(task, torch.zeros(task.parameters))  # which begins to look for the peak anew
    told = int(facts["wall_peak_rss_bytes"])
    if task.kind == "train":
        to_payload(task, vector)
    return max(told, resident_bytes("VmHWM:")) - before


def used_by_server(task: Task) -> int:
    """Return how far the process grew at most when it read the reply to ``task``."""
    payload = np.ones(task.parameters + len(task.spans), np.int8)
    before = resident_bytes("VmRSS:")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    from_payload(task, payload)
    return resident_bytes("VmHWM:") - before


def main() -> None:
    torch.set_num_threads(1)
    trainers = {shape: Trainer({0: ClientSamples(data(shape, 3 * BATCH), data(shape, BATCH))},
                               {"test": data(shape, EVALUATION_BATCH)}) for shape in (TINY, LARGE)}  # fmt: skip
    for task in tasks(TINY).values():
        trainers[TINY].run(task, torch.zeros(task.parameters))
    found = {name: (peak_memory_bytes(task), used_by(trainers[LARGE], task)) for name, task in tasks(LARGE).items()}
    train = asked("train", LARGE)
    print(json.dumps({**found, "server": (4 * train.parameters, used_by_server(train))}))


if __name__ == "__main__":
    main()
