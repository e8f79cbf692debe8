"""Clients that are trained in one pass find what each finds alone, but for the order in which sums are rounded."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from small_models import SMALL, random_state

from cosp.submodel.plan import BlockPlan, SubmodelPlan
from cosp.task.compression import CompressionSettings
from cosp.task.cut import weights_of
from cosp.task.local import LocalSettings
from cosp.task.privacy import PrivacySettings
from cosp.task.serial import task_from_json, task_to_json
from cosp.task.task import Beside, Task
from cosp.task.training import TrainSettings
from cosp.trainer.samples import ClientSamples, Samples
from cosp.trainer.trainer import Trainer
from cosp.transfer import TransferSettings

SIZES = ((9, 3), (21, 1), (4, 5), (16, 4))
"""Samples that each client trains on and holds back: other numbers of steps, batches that are not full."""
SGD = TrainSettings(epochs=2, batch_size=8, optimizer="sgd", learning_rate=0.05)
MODEL = random_state(SMALL)


def client(number: int, trains: int, held: int) -> ClientSamples:
    rng = np.random.default_rng(number)
    parts = (
        Samples(rng.normal(size=(n, *SMALL.sample_shape)).astype(np.float32), rng.integers(0, SMALL.classes, n))
        for n in (trains, held)
    )
    return ClientSamples(*parts)


CLIENTS = {number: client(number, *sizes) for number, sizes in enumerate(SIZES)}


def plan(seed: int) -> SubmodelPlan:
    rng = np.random.default_rng(seed)

    def units(size: int, kept: int) -> tuple[int, ...]:
        return tuple(sorted(rng.permutation(size)[:kept].tolist()))

    return SubmodelPlan(
        tuple(BlockPlan(units(2, 1), units(8, 5), units(6, 4), units(8, 8)) for _ in range(2))  # heads, ..., ffn_rows
    )


def group(**settings: Any) -> Task:
    beside = tuple(Beside(number, 0, plan(number)) for number in (1, 2, 3))
    task = Task("train", 0, 1, 0, 5, SMALL, plan(0), training=SGD)
    return replace(task, **settings, beside=beside)


CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "one teacher": {"transfer": TransferSettings(teacher="deepest", received=0.3)},
    "mutual": {"transfer": TransferSettings(teacher="mutual", reduction="mean", detach=False)},
    "no transfer": {"transfer": TransferSettings(teacher="none", shallow_exits=False)},
    "depth weighted": {"transfer": TransferSettings(depth_weighted=True)},
    "own class shares": {"balanced": True},
    "own classes alone": {"present_labels": True},
    "proximal": {"local": LocalSettings(proximal=0.5)},
    "no clipping": {"training": replace(SGD, clip_norm=None, momentum=0.0)},
    "whole numbers": {"compression": CompressionSettings(up="int8")},
    "noise": {"training": replace(SGD, privacy=PrivacySettings(clip=0.1, noise=0.5))},
}


@pytest.mark.parametrize("name", CASES)
def test_each_finds_what_it_finds_alone(name: str):
    task = group(**CASES[name])
    facts, vector = Trainer(CLIENTS, {}).run(task, weights_of(task, MODEL))
    assert len(task.each) == len(facts["each"]) == 4
    atol = 1e-3 if name == "whole numbers" else 2e-6
    for one, told, found in zip(task.each, facts["each"], vector.view(4, -1), strict=True):
        assert one.client == task.each.index(one)
        known, alone = Trainer(CLIENTS, {}).run(one, weights_of(one, MODEL))
        torch.testing.assert_close(found, alone, rtol=0, atol=atol)
        assert told.keys() == known.keys()
        assert told["samples"] == known["samples"] == SIZES[one.client][0]
        for fact in ("loss", "local_accuracy_received", "local_accuracy_trained"):
            assert told[fact] == pytest.approx(known[fact], abs=1e-5)


def test_adam_takes_as_many_steps_in_each_lane():
    task = group(training=replace(SGD, optimizer="adamw", learning_rate=1e-3))
    facts, vector = Trainer(CLIENTS, {}).run(task, weights_of(task, MODEL))
    for one, told, found in zip(task.each, facts["each"], vector.view(4, -1), strict=True):
        known, alone = Trainer(CLIENTS, {}).run(one, weights_of(one, MODEL))
        assert float((found - alone).norm() / alone.norm()) < 0.05  # of a gradient near zero the sign is chance
        assert told["loss"] == pytest.approx(known["loss"], abs=1e-4)


def test_the_same_again_has_the_same_bits():
    task = group()
    once, again = (Trainer(CLIENTS, {}).run(task, weights_of(task, MODEL))[1] for _ in range(2))
    assert torch.equal(once, again)


def test_one_whose_training_raises_is_named_and_the_others_are_trained():
    broken = ClientSamples(Samples(CLIENTS[2].train.x, CLIENTS[2].train.y + 7), CLIENTS[2].test)
    task = group()
    facts, vector = Trainer({**CLIENTS, 2: broken}, {}).run(task, weights_of(task, MODEL))
    assert ["failed" in told for told in facts["each"]] == [False, False, True, False]
    assert "IndexError" in facts["each"][2]["failed"]
    for place in (0, 1, 3):
        one = task.each[place]
        assert torch.equal(vector.view(4, -1)[place], Trainer(CLIENTS, {}).run(one, weights_of(one, MODEL))[1])


def test_a_task_travels_with_those_beside_it():
    task = group()
    assert task_from_json(task_to_json(task)) == task
    assert "beside" not in task_to_json(task.each[0])
