"""The trainer under the Pythons of JetPack 5 and 6, with torch 2.0 and without Flower: it computes what it does here.

``make py38-test`` runs this. The environments are made once, in ``.venv``; torch's CUDA libraries take gigabytes.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from node import ROOT, done_by_node
from small_models import SMALL, random_state
from test_trainer_side import run_probe

from cosp.recipe import Recipe
from cosp.submodel.flat import flatten, spans_of
from cosp.submodel.shape import layout_of
from cosp.task.scoring import ScoreSettings
from cosp.task.task import Task
from cosp.task.training import TrainSettings
from cosp.trainer.hand_over import describe
from cosp.trainer.samples import ClientSamples, Samples
from cosp.trainer.store import BoardStore, write_board_store
from cosp.trainer.trainer import Trainer

pytestmark = pytest.mark.pythons
PACKAGES = ("torch>=2.0,<2.1", "numpy<2")
START_S = 120.0

SGD = TrainSettings(epochs=2, batch_size=4, optimizer="sgd")
TRAIN = Task("train", 7, 3, 0, 1, SMALL, SMALL.full_plan(), training=SGD)  # AdamW magnifies the last bit of a gradient
SCORE = replace(TRAIN, kind="score", scoring=ScoreSettings(samples=6, batch_size=4))  # near zero, SGD does not


def base_python(version: str) -> str | None:
    """Return a Python of that version: on the PATH, or one of pyenv's."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [
        shutil.which(f"python{version}"),
        *map(str, sorted(pyenv.glob(f"{version}.*/bin/python"), reverse=True)),
    ]
    working = (path for path in candidates if path and _run(path, "-c", "import venv").returncode == 0)  # no mere shim
    return next(working, None)


def board_python(version: str) -> str:
    """Return the Python of an environment with ``PACKAGES``; skip the test, with the reason, if none can be made."""
    folder = ROOT / ".venv" / f"py{version}"
    python, ready = folder / "bin" / "python", folder / "ready"
    if not ready.exists():
        base = base_python(version)
        if base is None:
            pytest.skip(f"there is no Python {version}, neither on the PATH nor pyenv's")
        for command in ([base, "-m", "venv", str(folder)], [str(python), "-m", "pip", "install", "-q", *PACKAGES]):
            done = _run(*command)
            if done.returncode:
                why = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["it failed"]
                pytest.skip(f"{' '.join(command[1:])}: {why[0]}")
        ready.touch()
    return str(python)


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture(scope="module", params=["3.8", "3.10"])
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def python(version: str) -> str:
    return board_python(version)


@pytest.fixture(scope="module")
def here() -> dict[str, Any]:
    return run_probe(sys.executable)


def test_a_trainer_s_work_is_the_same(python: str, version: str, here: dict[str, Any]) -> None:
    there = run_probe(python)
    assert there["python"].startswith(f"{version}.")
    assert there["torch"].startswith("2.0.")
    for found, expected in ((there, here), (there["texts"], here["texts"])):
        assert found["units"] == expected["units"]
        for key in ("scores", "loss", "losses", "squares", "varied"):
            assert found[key] == pytest.approx(expected[key], abs=1e-4), key


def test_there_is_no_flower(python: str) -> None:
    assert "No module named 'flwr'" in _run(python, "-c", "import flwr").stderr


def samples(count: int, seed: int) -> Samples:
    rng = np.random.default_rng(seed)
    return Samples(rng.normal(size=(count, 1, 4, 4)).astype(np.float32), rng.integers(0, 3, count))


OWN = ClientSamples(samples(10, 0), samples(4, 1))


@pytest.fixture(scope="module")
def socket(python: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where ``python -m cosp.trainer`` listens under the board's Python."""
    folder = tmp_path_factory.mktemp("board")
    write_board_store(folder / "store", BoardStore(OWN, Recipe(("a", "b", "c"), OWN.train.x.shape[1:])))
    command = [python, "-m", "cosp.trainer", "--data", str(folder / "store")]
    command += ["--socket", str(folder / "trainer.sock"), "--threads", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", "PYTHONDONTWRITEBYTECODE": "1"}
    process = subprocess.Popen(command, env=environment)
    describe(folder / "trainer.sock", wait_s=START_S)
    yield folder / "trainer.sock"
    process.send_signal(signal.SIGTERM)
    assert process.wait(START_S) == 0


@pytest.mark.parametrize("task", [TRAIN, SCORE], ids=["train", "score"])
def test_a_node_of_this_python_has_a_trainer_of_that_one_do_its_tasks(socket: Path, version: str, task: Task) -> None:
    """The two-Python layout of a board: what comes back is what a trainer in this process computes."""
    weights = flatten(random_state(SMALL), spans_of(layout_of(SMALL), task.plan.counts))
    expected, vector = Trainer({7: OWN}, {}).run(task, weights.clone())
    assert describe(socket)["python"].startswith(f"{version}.")
    who, facts, found = done_by_node(socket, task, weights.numpy())
    assert (who["client"], who["samples"], who["test_samples"]) == (7, 10, 4)
    assert float(vector.abs().max()) > 1e-2
    assert torch.from_numpy(found).sub(vector).abs().max() <= 1e-4
    if task.kind == "train":
        assert facts["loss"] == pytest.approx(expected["loss"], abs=1e-4)
        assert facts["wall_step_s"] > 0
