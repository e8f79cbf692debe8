"""The images' commands run for real, each in a folder that is laid out as its Dockerfile says.

By default with this Python's packages; with ``-m deploy`` in clean environments, made by the Dockerfiles' own commands.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import venv
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import yaml
from small_models import SMALL, random_state

from cosp.recipe import Recipe
from cosp.task.serial import task_to_json
from cosp.task.task import Task
from cosp.task.training import TrainSettings
from cosp.trainer.hand_over import describe, hand_over
from cosp.trainer.samples import ClientSamples, Samples
from cosp.trainer.store import BoardStore, write_board_store

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


def clean_python(folder: Path) -> Path:
    """Make an environment with pip alone."""
    venv.create(folder, with_pip=True)
    return folder / "bin" / "python"


def fill_store(folder: Path) -> None:
    rng = np.random.default_rng(0)

    def samples(count: int) -> Samples:
        return Samples(rng.normal(size=(count, 1, 4, 4)).astype(np.float32), rng.integers(0, 3, count))

    write_board_store(folder, BoardStore(ClientSamples(samples(10), samples(4)), Recipe(("a", "b", "c"), (1, 4, 4))))


def trained_by(image: FolderImage) -> dict[str, object]:
    """Start the trainer as the image does, wait until it is well, have it train, stop it; return what it is."""
    fill_store(image.inside("/store"))
    assert not image.healthy()
    door = image.inside("/run/cosp/trainer.sock")
    weights = np.concatenate([tensor.numpy().ravel() for tensor in random_state(SMALL).values()])
    with image.running("--threads", "1") as process:
        until(image.healthy, process)
        found = describe(door)
        facts, change = hand_over(door, task_to_json(TASK), weights)
    assert process.returncode == 0
    assert not image.healthy()
    assert facts["samples"] == 10
    assert change.shape == weights.shape
    assert np.abs(change).max() > 0
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


FLEET = """
title: One board
boards:
  - {device: raspberry-pi-5, link: ethernet, keep: 0.5}
"""
CONFIG = """
name: one-board
data: {name: digits}
fleet: FLEET
model: {patch: 4, dim: 32, blocks: 2, heads: 2, hidden: 64, exits: [1, 2]}
method: {name: co-s2p}
training: {epochs: 2, batch_size: 32}
server: {versions: 3, quorum: 1.0}
"""


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as found:
        port: int = found.getsockname()[1]
        return port


@pytest.mark.deploy
def test_the_server_s_image_installs_what_a_server_needs(tmp_path: Path) -> None:
    image = FolderImage(DOCKER / "server.Dockerfile", tmp_path / "image", clean_python(tmp_path / "venv"))
    image.install()
    assert "start" in image.output("cosp", "server", "--help")


@pytest.mark.deploy
def test_server_node_and_trainer_train_together_as_the_compose_files_start_them(tmp_path: Path) -> None:
    ports = {8000: free_port(), 9094: free_port()}
    server = FolderImage(DOCKER / "server.Dockerfile", tmp_path / "server", Path(sys.executable), ports)
    node = FolderImage(DOCKER / "node.Dockerfile", tmp_path / "node", clean_python(tmp_path / "node-venv"), ports)
    board = Path(os.environ.get("COSP_PYTHON38", server.python))  # JetPack 5's layout: two Pythons on one board
    trainer = FolderImage(DOCKER / "trainer.Dockerfile", tmp_path / "trainer", board)
    node.install()
    assert "torch" not in node.output("python", "-m", "pip", "freeze")

    keys, config = server.inside("/run/secrets"), tmp_path / "one-board.yaml"
    (tmp_path / "fleet.yaml").write_text(FLEET, encoding="utf-8")
    config.write_text(CONFIG.replace("FLEET", str(tmp_path / "fleet.yaml")), encoding="utf-8")
    server.output("cosp", "keys", "server", "--host", "127.0.0.1", "--out", str(keys))
    server.output("cosp", "keys", "node", "board-0", "--out", str(keys))
    server.output("cosp", "store", str(config), "--out", str(tmp_path / "stores"))
    shutil.copytree(tmp_path / "stores" / "0", trainer.inside("/store"), dirs_exist_ok=True)
    for name, secret in (("ca.crt", "ca.crt"), ("board-0.key", "node.key")):
        shutil.copy(keys / name, node.inside("/run/secrets") / secret)
    node.inside("/run/cosp").rmdir()
    node.inside("/run/cosp").symlink_to(trainer.inside("/run/cosp"))  # the volume that the two share

    start = ("start", "--state", "/state", "--keys", "/run/secrets", "--port", str(ports[8000]))
    composed = yaml.safe_load((DOCKER / "compose.board.yaml").read_text(encoding="utf-8"))["services"]["node"][
        "command"
    ]
    given = {"COSP_SERVER": f"127.0.0.1:{ports[8000]}", "COSP_NUMBER": "0"}
    command = [re.sub(r"\$\{(\w+):?[^}]*\}", lambda found: given[found.group(1)], word) for word in composed]
    with server.running(*start) as serving, trainer.running() as training:
        until(server.healthy, serving)
        until(trainer.healthy, training)
        state = ("--state", str(server.inside("/state")))
        server.output("cosp", "server", "admit", str(keys / "board-0.pub"), *state)
        with node.running(*command, "--port", str(ports[9094])) as joined:
            until(node.healthy, joined)
            server.output("cosp", "server", "run", str(config), "--out", str(server.inside("/runs") / "one"), *state)
    rows = [json.loads(line) for line in (server.inside("/runs") / "one" / "rows.jsonl").read_text().splitlines()]
    updates = [row for row in rows if row["kind"] == "arrival" and row["task"] == "train"]
    assert len(updates) == 3
    assert all(row["accepted"] and row["wall_step_s"] > 0 and row["wall_peak_rss_bytes"] > 2**20 for row in updates)
    accuracy = [row["evaluation"]["accuracy"][-1] for row in rows if row["kind"] == "round"]
    assert accuracy[-1] > accuracy[0] + 0.2
