"""Boards that answer at once, without training, over Flower's own bytes; each of them may lie."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from flwr.app import ConfigRecord, Error, Message
from flwr.serverapp import Grid
from postal import FIRST, PostalGrid, posted

from cosp.config import checked
from cosp.experiment import Experiment, load_experiment
from cosp.run import checkpoint
from cosp.run.directory import RunDirectory
from cosp.run.evaluation import in_process
from cosp.run.serve import serve
from cosp.task.task import Task
from cosp.trainer.trainer import Trainer
from cosp.wire import messages as wire
from cosp.wire import records

CONFIG: dict[str, Any] = {
    "name": "puppets",
    "data": {"name": "digits", "train": 80, "validation": 20, "test": 20, "partition": {"kind": "iid"}},
    "fleet": {"boards": [{"count": 4, "device": "jetson-orin-nano-8", "link": "ethernet", "keep": 0.5}]},
    "model": {"patch": 4, "dim": 8, "blocks": 2, "heads": 2, "hidden": 8, "exits": [1, 2]},
    "method": {"name": "co-s2p", "depth_share": 0.5},  # so that width is pruned and units are scored
    "training": {"epochs": 1, "batch_size": 16},
    "server": {"versions": 4, "quorum": 1.0, "checkpoint_every": 1},
}

Lie = Callable[[Message, Message], Message | Sequence[Message]]
"""From a request and the honest reply to what is sent instead."""


class Puppets(PostalGrid):
    """One node a board. ``lies``: node -> what it makes of its replies."""

    def __init__(self, experiment: Experiment, lies: Mapping[int, Lie], more: Sequence[int] = ()) -> None:
        super().__init__([*(FIRST + i for i in range(len(experiment.boards))), *more])
        self.experiment, self.lies = experiment, dict(lies)

    def answers(self, request: Message) -> Sequence[Message]:
        node = request.metadata.dst_node_id
        reply = posted(self.answer(request, node))
        told = self.lies[node](request, reply) if node in self.lies else reply
        return told if isinstance(told, Sequence) else [told]

    def answer(self, request: Message, node: int) -> Message:
        """Return what an honest board says."""
        client = (node - FIRST) % len(self.experiment.boards)
        if request.metadata.message_type == "query":
            return records.introduction_reply(request, self.experiment.introduction(client))
        task = wire.read_task(request)
        return wire.result_reply(request, facts_of(task, self.experiment), vector_of(task))


def facts_of(task: Task, experiment: Experiment) -> dict[str, Any]:
    """Return what an honest board tells of ``task``, measured figures too."""
    found: dict[str, Any] = {"samples": experiment.introduction(task.client).samples, "wall_s": 1e-6}
    if task.kind == "train":
        found |= {"loss": 1.5, "local_accuracy_received": 0.25, "local_accuracy_trained": 0.5, "wall_step_s": 1e-7}
    return found


def vector_of(task: Task) -> torch.Tensor:
    """Return a small update, or scores."""
    generator = torch.Generator().manual_seed(1000 * task.client + task.version)
    if task.kind == "train":
        return torch.randn(task.trained, generator=generator) * 0.01
    sizes = task.shape.sizes
    units = sizes.heads + sizes.attention_rows + sizes.hidden + sizes.ffn_rows
    return torch.rand(task.plan.depth * units, generator=generator)


def said(reply: Message) -> dict[str, Any]:
    """Return what the JSON text of a reply says."""
    found: dict[str, Any] = json.loads(str(reply.content["result"]["json"]))
    return found


def saying(reply: Message, text: str) -> Message:
    """Return ``reply`` with another JSON text."""
    reply.content["result"] = ConfigRecord({"json": text})
    return reply


def kind(request: Message) -> str:
    return str(request.metadata.message_type)


def fails(reason: str, code: int = 2) -> Lie:
    return lambda request, reply: Message(Error(code, reason), reply_to=request)


def experiment_with(config: Mapping[str, Any] = CONFIG, **changes: Any) -> Experiment:
    """Return the experiment, with ``server``'s keys changed."""
    return load_experiment(checked({**config, "server": {**config["server"], **changes}}, "puppets.yaml"))


def run_with(experiment: Experiment, grid: Grid, folder: Path, *, resume: bool = False) -> dict[str, Any]:
    """Serve to the end; return the metrics."""
    directory = RunDirectory.reopen(folder) if resume else RunDirectory.create(folder, experiment.config)
    saved = checkpoint.load(directory.checkpoints) if resume else None
    evaluate_with = in_process(Trainer({}, experiment.splits))
    return serve(grid, experiment, directory, evaluate_with=evaluate_with, saved=saved)


def rows_of(folder: Path, kind: str | None = None) -> list[dict[str, Any]]:
    """Return a run's rows; NaN and infinity are no JSON."""

    def refuse(text: str) -> None:
        raise AssertionError(f"a row holds {text}")

    lines = (folder / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line, parse_constant=refuse) for line in lines]
    return [row for row in rows if kind in (None, row["kind"])]


def introduced(experiment: Experiment, client: int, /, **changes: Any) -> str:
    """Return the JSON text of an introduction, some of it another."""
    return json.dumps({**asdict(experiment.introduction(client)), **changes})
