"""A long run of many boards of which many are bad: memory stays flat, nothing is leaked, nobody honest is banned.

200 boards answer over Flower's own bytes: a task in three is lost, a reply in twenty is garbage, three boards attack at
every turn. ``-m slow`` serves 500 versions (``COSP_SOAK_VERSIONS``) and, with ``-s``, prints the slope.
"""

from __future__ import annotations

import gc
import json
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from flwr.app import Error, Message
from puppets import CONFIG, FIRST, Lie, Puppets, experiment_with, facts_of, kind, rows_of, said, saying, vector_of

from cosp.run.directory import RunDirectory
from cosp.run.evaluation import in_process
from cosp.run.serve import serve
from cosp.trainer.trainer import Trainer
from cosp.wire import messages as wire

pytestmark = [pytest.mark.integration, pytest.mark.slow]

VERSIONS = int(os.environ.get("COSP_SOAK_VERSIONS", "500"))
BOARDS, LOST, GARBAGE = 200, 0.3, 0.05
ATTACKERS = {3: -1.0, 77: 1000.0, 150: -10.0}
"""Client -> what it multiplies its updates by."""
FLEET = {"boards": [{"count": BOARDS, "device": "jetson-orin-nano-8", "link": "ethernet", "keep": 0.5}]}
SOAK = {
    **CONFIG,
    "fleet": FLEET,
    "data": {**CONFIG["data"], "train": 1000, "partition": {"kind": "iid", "min_samples": 1}},
    "method": {**CONFIG["method"], "merge": {"clip": {"factor": 8, "how": "scale"}}},
    "server": {"versions": VERSIONS, "quorum": 0.2, "concurrency": 50, "checkpoint_every": 10, "evaluate_every": 50},
}


class Boards(Puppets):
    """Puppets of whom three attack."""

    def answer(self, request: Message, node: int) -> Message:
        if kind(request) != "train" or node - FIRST not in ATTACKERS:
            return super().answer(request, node)
        task = wire.read_task(request)
        return wire.result_reply(request, facts_of(task, self.experiment), vector_of(task) * ATTACKERS[node - FIRST])


def lossy(client: int) -> Lie:
    """Return how ``client``'s replies arrive: lost, garbage, or as they are."""
    chance = random.Random(client)

    def lie(request: Message, reply: Message) -> Message:
        drawn = 1.0 if kind(request) == "query" else chance.random()
        if drawn < LOST:
            return Message(Error(2, "lost on the way"), reply_to=request)
        if drawn < LOST + GARBAGE:
            told = said(reply)
            wrong = "{", json.dumps({**told, "loss": 10**400}), json.dumps({**told, "samples": 10**9}), ""
            return saying(reply, chance.choice(wrong))
        return reply

    return lie


class Watch:
    """The process as versions close."""

    def __init__(self) -> None:
        self.process, self.seen = psutil.Process(), list[tuple[int, int, int, int]]()

    def on_row(self, row: dict[str, Any]) -> None:
        if row["kind"] == "round" and row["version"] % 10 == 0:
            gc.collect()
            found = self.process.memory_info().rss, self.process.num_fds(), self.process.num_threads()
            self.seen.append((row["version"], *found))


def test_memory_is_flat_and_nothing_is_leaked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cosp.server.clock.POLL_S", 0.001)
    experiment, watch = experiment_with(SOAK), Watch()
    grid = Boards(experiment, {FIRST + client: lossy(client) for client in range(BOARDS)})
    directory = RunDirectory.create(tmp_path / "run", experiment.config)
    evaluate_with = in_process(Trainer({}, experiment.splits))
    metrics = serve(grid, experiment, directory, evaluate_with=evaluate_with, on_row=watch.on_row)
    versions, rss, files, threads = np.array(watch.seen[len(watch.seen) // 5 :]).T  # caches fill at first
    slope = np.polyfit(versions, rss, 1)[0]
    refused = metrics["refused"]
    print(
        f"\n{metrics['rounds']} versions, {BOARDS} boards: {slope / 1e3:.1f} kB a version, {rss[0] / 1e6:.0f} to "
        f"{rss[-1] / 1e6:.0f} MB; refused {refused}; banned {metrics['banned']}"
    )
    assert metrics["rounds"] == VERSIONS
    assert len(set(files)) == 1
    assert len(set(threads)) == 1
    assert slope * VERSIONS < 0.1 * rss[0]
    merged = sum(metrics["staleness"].values())
    assert refused["malformed"] + refused["samples"] > 0.02 * merged
    clipped = [row["client"] for row in rows_of(tmp_path / "run", "arrival") if "clipped" in row]
    assert {77, 150} >= set(clipped) > set()
    assert len(metrics["banned"]) <= BOARDS // 20
