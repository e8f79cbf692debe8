from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch

from cosp.trainer.optimizer import SGD, Adam, Optimizer

PAIRS: list[tuple[Callable[..., Any], Callable[..., Optimizer]]] = [
    (lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1), lambda p: Adam(p, 0.01, 0.1, decoupled=True)),
    (lambda p: torch.optim.Adam(p, lr=0.01), lambda p: Adam(p, 0.01)),
    (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01), lambda p: SGD(p, 0.1, 0.9, 0.01)),
    (lambda p: torch.optim.SGD(p, lr=0.1), lambda p: SGD(p, 0.1)),
]


@pytest.mark.parametrize(("theirs", "ours"), PAIRS, ids=["adamw", "adam", "sgd with momentum", "sgd"])
def test_steps_are_torchs_to_the_bit(theirs: Callable[..., Any], ours: Callable[..., Optimizer]) -> None:
    generator = torch.Generator().manual_seed(0)
    begin = [torch.randn(shape, generator=generator) for shape in ((50,), (3, 4))]
    slopes = [[torch.randn(one.shape, generator=generator) for one in begin] for _ in range(5)]
    found = []
    for make in (theirs, ours):
        parameters = [one.clone() for one in begin]
        optimizer = make(parameters)
        for step in slopes:
            optimizer.zero_grad()
            for parameter, slope in zip(parameters, step, strict=True):
                parameter.grad = slope.clone()
            optimizer.step()
        found.append(parameters)
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


def test_a_step_without_a_gradient_is_an_error() -> None:
    with pytest.raises(ValueError, match="needs a gradient of every parameter"):
        SGD([torch.zeros(2)], 0.1).step()


TRAINS = """
import sys
import numpy as np, torch
from cosp.models import ViTShape
from cosp.models.flat import FlatModel
from cosp.task.training import TrainSettings
from cosp.trainer.samples import Samples
from cosp.trainer.training import train
from cosp.transfer import TransferSettings

shape = ViTShape(8, 4, 1, 2, 8, 1, 2, 8, (1,))
model = FlatModel(shape, shape.full_plan(), torch.device("cpu"))
model.load(torch.zeros(len(model.weights)))
data = Samples(np.zeros((4, 1, 8, 8), np.float32), np.zeros(4, np.int64))
for optimizer in ("adamw", "sgd"):
    settings = TrainSettings(optimizer=optimizer)
    train(model, data, settings=settings, transfer=TransferSettings(), version=0, rng=np.random.default_rng(0))
print("torch._dynamo" in sys.modules)
"""


def test_training_does_not_import_torchs_compiler() -> None:
    done = subprocess.run([sys.executable, "-c", TRAINS], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
