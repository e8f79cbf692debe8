"""Tasks of kind "serve": a board's answers, forward alone, and what they cost it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from cosp.fleet import load_fleet
from cosp.fleet.cost import cost
from cosp.methods.pricing import serving_work
from cosp.models import ViTShape
from cosp.models.transformer import Transformer, initialise
from cosp.seeds import torch_stream
from cosp.submodel.flat import flatten, spans_of
from cosp.submodel.shape import layout_of
from cosp.submodel.slicing import extract
from cosp.task.demand import peak_memory_bytes
from cosp.task.serial import task_from_json, task_to_json
from cosp.task.task import Task
from cosp.task.training import TrainSettings
from cosp.trainer.samples import Samples
from cosp.trainer.trainer import Trainer

SHAPE = ViTShape(image=8, patch=4, channels=1, classes=3, dim=8, blocks=2, heads=2, hidden=8, exits=(1, 2))
TASK = Task("serve", 0, 0, 0, 0, SHAPE, SHAPE.full_plan(), training=TrainSettings(batch_size=4), split="stream",
            first=5, last=25)  # fmt: skip
BOARD = load_fleet({"boards": [{"device": "jetson-nano", "link": "wifi"}]}).boards[0]


def test_answers_are_those_that_the_model_is_judged_by() -> None:
    model = Transformer(SHAPE)
    initialise(model, torch_stream(0, "model"))
    layout = layout_of(SHAPE)
    weights = flatten(extract(dict(model.named_parameters()), layout, TASK.plan), spans_of(layout, TASK.plan.counts))
    rng = np.random.default_rng(0)
    samples = Samples(rng.normal(size=(30, 1, 8, 8)).astype(np.float32), rng.integers(3, size=30))
    trainer = Trainer({}, {"stream": samples}, device="cpu")
    facts, found = trainer.run(TASK, weights.detach())
    logits = found.view(20, 2, 3)
    with torch.no_grad():
        expected = model(torch.from_numpy(samples.x[5:25]))
    assert torch.allclose(logits, torch.stack(expected, 1), atol=1e-6)
    _, counts = trainer.run(replace(TASK, kind="evaluate"), weights.detach())
    right = [int(one.trace()) for one in counts.view(3, 3, 3)[:2]]
    assert right == [int((logits[:, i].argmax(-1).numpy() == samples.y[5:25]).sum()) for i in range(2)]
    assert facts["samples"] == 20


def test_it_travels_as_any_task() -> None:
    assert task_from_json(task_to_json(TASK)) == TASK


def test_it_takes_less_than_training_and_grows_with_what_comes() -> None:
    assert peak_memory_bytes(TASK) < peak_memory_bytes(replace(TASK, kind="train"))
    few, many = (serving_work(replace(TASK, last=5 + count), bytes_down=0, bytes_up=0) for count in (4, 16))
    assert (few.steps, many.steps, few.batch) == (1, 4, 4)
    assert cost(BOARD, many).energy_j > cost(BOARD, few).energy_j > 0


def test_messages_take_their_time_and_energy() -> None:
    silent, sending, taking = (
        cost(BOARD, serving_work(TASK, bytes_down=down, bytes_up=up)) for down, up in ((0, 0), (0, 9_000), (9_000, 0))
    )
    assert sending.upload_s > silent.upload_s
    assert taking.download_s > silent.download_s
    assert min(sending.energy_j, taking.energy_j) > silent.energy_j


def test_a_board_that_keeps_no_stream_answers_none() -> None:
    trainer = Trainer({}, {}, device="cpu")
    with pytest.raises(KeyError, match="stream"):
        trainer.run(TASK, torch.zeros(TASK.parameters))
