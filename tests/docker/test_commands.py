"""The images' commands run for real, each in a folder that is laid out as its Dockerfile says.

By default with this Python's packages; with ``-m deploy`` in clean environments, made by the Dockerfiles' own commands.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import venv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from small_models import SMALL, random_state

from cosp.client.hand_over import describe, hand_over
from cosp.client.store import BoardStore, write_board_store
from cosp.client.task import Task
from cosp.client.trainer import ClientSamples
from cosp.client.training import Samples, TrainSettings

pytest.importorskip("dockerfile_parse")
from folder_image import FolderImage

DOCKER = Path(__file__).resolve().parents[2] / "docker"
START_S = 120.0
TASK = Task("train", 0, 0, 0, 1, SMALL, SMALL.full_plan(), training=TrainSettings(epochs=1, batch_size=4))


def until(true: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    ends_s = time.monotonic() + START_S
    while not true():
        assert process.poll() is None, f"ended with {process.returncode}"
        assert time.monotonic() < ends_s
        time.sleep(0.2)


def stop(process: subprocess.Popen[bytes]) -> int:
    process.send_signal(signal.SIGTERM)  # what `docker stop` sends
    return process.wait(timeout=START_S)


def clean_python(folder: Path) -> Path:
    """Make an environment with pip alone."""
    venv.create(folder, with_pip=True)
    return folder / "bin" / "python"


def fill_store(folder: Path) -> None:
    rng = np.random.default_rng(0)

    def samples(count: int) -> Samples:
        return Samples(rng.normal(size=(count, 1, 4, 4)).astype(np.float32), rng.integers(0, 3, count))

    write_board_store(folder, BoardStore(ClientSamples(samples(10), samples(4)), ("a", "b", "c")))


def trained_by(image: FolderImage) -> dict[str, object]:
    """Start the trainer as the image does, wait until it is well, have it train, stop it; return what it is."""
    fill_store(image.inside("/store"))
    assert not image.healthy()
    socket, weights = image.inside("/run/cosp/trainer.sock"), random_state(SMALL)
    process = image.run("--threads", "1")
    try:
        until(image.healthy, process)
        found = describe(socket)
        facts, change = hand_over(socket, TASK.to_json(), lambda name: weights[name].numpy())
    finally:
        assert stop(process) == 0
    assert not image.healthy()
    assert facts["samples"] == 10
    assert {name: array.shape for name, array in change.items()} == {
        name: tuple(tensor.shape) for name, tensor in weights.items()
    }
    return found


def test_a_trainer_s_image_starts_trains_and_stops(tmp_path: Path) -> None:
    trained_by(FolderImage(DOCKER / "trainer.Dockerfile", tmp_path, Path(sys.executable)))


@pytest.mark.deploy
def test_a_trainer_s_image_installs_torch_where_there_is_none(tmp_path: Path) -> None:
    image = FolderImage(DOCKER / "trainer.Dockerfile", tmp_path / "image", clean_python(tmp_path / "venv"))
    image.install()
    assert str(trained_by(image)["torch"]).startswith("2.")


@pytest.mark.deploy
def test_a_trainer_s_image_leaves_the_board_s_own_python_as_it_is(tmp_path: Path) -> None:
    python = os.environ.get("COSP_PYTHON38")
    if not python:
        pytest.skip("COSP_PYTHON38 names no Python 3.8 with torch, as JetPack 5 has it")
    image = FolderImage(DOCKER / "trainer.Dockerfile", tmp_path, Path(python))
    before = subprocess.run([python, "-m", "pip", "freeze"], capture_output=True, check=True).stdout
    image.install()
    assert subprocess.run([python, "-m", "pip", "freeze"], capture_output=True, check=True).stdout == before
    assert str(trained_by(image)["python"]).startswith("3.8.")
