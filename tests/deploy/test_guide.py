"""The deployment guide followed to the letter: every ``cosp`` command of its sections 1 to 5, in order, on one machine.

Names and ports are put in place of the guide's, and the experiment is cut to three versions. What needs a container
engine, a GPU or another network (``docker``, ``uv``, ``git clone``) is not run here; ``tests/docker`` plays the images.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pages
import pytest
from deployment import CONFIG, ROOT, Deployment, answers, until
from PIL import Image
from sklearn.datasets import load_digits

from cosp.trainer.hand_over import describe

pytestmark = pytest.mark.deploy
BOARDS = 3
RUN_S = 1800.0
GUIDE = pages.read("docs/deployment.md")
FOLLOWED = GUIDE[GUIDE.index("## 1. ") : GUIDE.index("## 6. ")]
INLINE = ("cosp devices probe", "cosp run my.yaml --dry")
"""Commands that the guide names in a sentence and means to be given as they stand."""


def commands() -> list[str]:
    """Return the guide's commands of cosp in order; a line of a block may hold several, and a comment."""
    lines = [line for given, line in pages.in_order(FOLLOWED) if given or line in INLINE]
    ours = re.compile(r"cosp (?!&&)|python3 -m cosp|PYTHONPATH=\. ")
    return [line for line in lines if ours.match(line)]


class Reader(Deployment):
    """Does what the guide says, each board's commands in a home folder of its own."""

    def follow(self, line: str) -> None:
        line = self.placed(line)
        if "server start" in line:
            self.stay("server", f"{line} --port {self.port}", self.folder)
            until(lambda: answers(self.address, self.port), "the server answers")
        elif "cosp.trainer --data" in line or " client " in line:
            for board in range(BOARDS):
                self.on_board(line, board)
        else:
            self.stay("guide", line, self.folder)
            assert self.processes["guide"].wait(RUN_S) == 0, f"{line}\n{self.log('guide')}\n{self.log('server')}"

    def placed(self, line: str) -> str:
        for theirs, ours in {
            "server.lan:8000": f"{self.address}:{self.port}",
            "192.168.1.10": self.address,
            "PYTHONPATH=. ": f"PYTHONPATH={ROOT} ",
        }.items():
            line = line.replace(theirs, ours)
        return line

    def on_board(self, line: str, board: int) -> None:
        home = self.folder / f"home-{board}"
        line = line.replace("--number 0", f"--number {board}").replace("board-0.key", f"board-{board}.key")
        if "cosp.trainer --data" in line:
            shutil.copytree(self.folder / "stores" / str(board), home / "store")
            for name in ("ca.crt", f"board-{board}.key"):
                shutil.copy(self.folder / "keys" / name, home / name)
            self.stay(f"trainer-{board}", f"{line} --threads 1", home)
            describe(home / "cosp.sock", wait_s=RUN_S)
        else:
            self.stay(f"client-{board}", f"{line} --port {self._node_ports[board]}", home)
            until(lambda: self.online() == board + 1, f"board {board} is online")

    def online(self) -> int:
        nodes = json.loads(self.cosp("server", "nodes", "--json").stdout)
        return sum(node["status"] == "online" for node in nodes)

    def stay(self, name: str, line: str, home: Path) -> None:
        """Start a line of shell in ``home``, where ``cosp``, ``python3`` and the node's Python are this one."""
        for path in ("bin/python3", "bin/cosp", "node/bin/python"):
            program = home / path
            program.parent.mkdir(parents=True, exist_ok=True)
            module = "-m cosp.cli " if path.endswith("cosp") else ""
            program.write_text(f'#!/bin/sh\nexec {sys.executable} {module}"$@"\n', encoding="utf-8")
            program.chmod(0o755)
        place = ["env", "-C", str(home), f"HOME={home}", f"PATH={home / 'bin'}:/usr/bin:/bin"]
        self.start(name, line, prefix=place, python=("bash", "-c"))


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    folder = tmp_path_factory.mktemp("guide")
    text = pages.titled("docs/deployment.md", "my.yaml")
    (folder / "my.yaml").write_text(text.replace("versions: 40", "versions: 3"), encoding="utf-8")
    for number, (image, label) in enumerate(zip(*load_digits(return_X_y=True), strict=True)):
        if number < 200:
            place = folder / "photos" / str(label)
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray((image.reshape(8, 8) * 15).astype(np.uint8)).save(place / f"{number}.png")
    with Reader(folder, CONFIG) as reader:
        for line in commands():
            reader.follow(line)
        yield reader


def test_the_guide_has_every_step() -> None:
    steps = ("keys server", "server start", "run my.yaml --dry", "server recipe", "cosp.trainer store",
             "store my.yaml --own", "keys node", "server admit", "cosp.trainer --data", "cosp.cli client",
             "server nodes", "server run", "report")  # fmt: skip
    assert [step for step in steps if not any(step in line for line in commands())] == []


def test_the_guide_leads_to_a_finished_run(reader: Reader) -> None:
    metrics = json.loads((reader.folder / "runs" / "my" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["rounds"] == 3
    assert {row["client"] for row in reader.arrivals("runs/my")} == set(range(BOARDS))
    assert (reader.folder / "runs" / "my" / "report.html").is_file()
