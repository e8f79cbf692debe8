"""The ClientApp on a board: it hands over, and imports no torch, because Flower starts it anew for every task."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from node import ROOT, done_by_node
from small_models import SMALL

from cosp.fleet.introduction import Introduction
from cosp.recipe import Recipe, recipe_from
from cosp.task.task import Task
from cosp.task.training import TrainSettings
from cosp.trainer.samples import ClientSamples, Samples
from cosp.trainer.store import BoardStore, write_board_store


@pytest.fixture
def socket(tmp_path):
    rng = np.random.default_rng(0)

    def samples(count: int) -> Samples:
        return Samples(rng.normal(size=(count, 1, 4, 4)).astype(np.float32), np.arange(count) % 3)

    own = ClientSamples(samples(10), samples(4))
    write_board_store(tmp_path / "store", BoardStore(own, Recipe(("a", "b", "c"), (1, 4, 4))))
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
