"""The ClientApp on a board: it hands over, and imports no torch, because Flower starts it anew for every task."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from node import ROOT, done_by_node
from small_models import SMALL, random_state

from cosp.fleet.introduction import Introduction
from cosp.models import TextShape
from cosp.recipe import Recipe, recipe_from
from cosp.submodel.flat import flatten
from cosp.submodel.shape import layout_of
from cosp.submodel.slicing import extract
from cosp.task.cut import Cut
from cosp.task.sent import to_bytes
from cosp.task.task import Task
from cosp.task.training import TrainSettings
from cosp.trainer.samples import ClientSamples, Samples
from cosp.trainer.store import BoardStore, write_board_store


@pytest.fixture
def socket(tmp_path):
    rng = np.random.default_rng(0)

    def samples(count: int) -> Samples:
        return Samples(rng.normal(size=(count, 1, 4, 4)).astype(np.float32), np.arange(count) % 3)

    yield from trainer_of(ClientSamples(samples(10), samples(4)), tmp_path)


TRAINED = np.array([[2, 40, 0], [7, 40, 2], [9, 0, 0]], np.int32)
HELD_BACK = np.array([[40, 55, 0]], np.int32)


@pytest.fixture
def socket_of_texts(tmp_path):
    own = ClientSamples(Samples(TRAINED, np.array([0, 1, 2])), Samples(HELD_BACK, np.array([0])))
    yield from trainer_of(own, tmp_path)


def trainer_of(own: ClientSamples, tmp_path: Path) -> Iterator[Path]:
    write_board_store(tmp_path / "store", BoardStore(own, Recipe(("a", "b", "c"), own.train.x.shape[1:])))
    command = [sys.executable, "-m", "cosp.trainer", "--data", str(tmp_path / "store")]
    command += ["--socket", str(tmp_path / "trainer.sock"), "--threads", "1"]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)})
    yield tmp_path / "trainer.sock"
    process.terminate()
    process.wait()


def test_it_introduces_itself_and_works_without_torch(socket):
    task = Task("train", 3, 0, 0, 1, SMALL, SMALL.full_plan(), training=TrainSettings(epochs=1, batch_size=4))
    who, facts, vector = done_by_node(socket, task, np.zeros(task.parameters, np.float32))
    recipe = recipe_from(json.dumps(who["recipe"]))
    found = Introduction(**{**who, "class_counts": tuple(who["class_counts"]), "recipe": recipe})
    assert (found.client, found.board, found.keep, found.samples, found.test_samples) == (3, "nano", 0.5, 10, 4)
    assert found.class_counts == (4, 3, 3)
    assert recipe == Recipe(("a", "b", "c"), (1, 4, 4))
    assert (facts["samples"], facts["recipe"]) == (10, recipe.mark)
    assert vector.shape == (task.parameters,)


def test_it_hands_on_frozen_halves_as_the_bytes_that_came(socket):
    training = TrainSettings(epochs=1, batch_size=4, frozen=("blocks: 2",), frozen_as="bfloat16")
    task = Task("train", 3, 0, 0, 1, SMALL, SMALL.full_plan(), training=training)
    sent = to_bytes(task, Cut(random_state(SMALL), layout_of(SMALL), task))
    assert (sent.dtype, sent.size) == (np.uint8, 4 * task.trained + 2 * task.size.frozen)
    _, facts, vector = done_by_node(socket, task, sent)
    assert (facts["samples"], vector.shape) == (10, (task.trained,))
    assert vector.any()


def test_a_board_that_is_asked_tells_its_words_and_trains_their_rows_alone(socket_of_texts):
    shape = TextShape(vocabulary=60, length=3, classes=3, dim=8, blocks=1, heads=2, hidden=4, exits=(1,), padding=0)
    plan = replace(shape.full_plan(), words=(0, 2, 7, 9, 40, 55))
    task = Task("train", 3, 0, 0, 1, shape, plan, training=TrainSettings(epochs=1, batch_size=4, weight_decay=0.0))
    sent = flatten(extract(random_state(shape), layout_of(shape), plan), task.spans)
    who, _, found = done_by_node(socket_of_texts, task, sent.numpy(), words=True)
    assert tuple(who["words"]) == plan.words
    assert found.shape == sent.shape
    table = found[slice(*task.spans["inputs.weight"][:2])].reshape(6, 8)
    assert [bool(row.any()) for row in table] == [False, True, True, True, True, False]  # padding; held back alone


def test_pictures_have_no_words_to_tell(socket):
    task = Task("train", 3, 0, 0, 1, SMALL, SMALL.full_plan())
    with pytest.raises(AssertionError, match="no texts: they have no words"):
        done_by_node(socket, task, np.zeros(task.parameters, np.float32), words=True)
