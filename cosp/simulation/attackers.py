"""What a fleet's attackers do in a simulation: to the data that they train on, and to what they send back.

Whoever attacks by data has them beside the honest ones, as those of one more client of the trainer's, its *double*: so
a worker need know nothing of it, and an attack can begin in mid-run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cosp.data.poison import flipped, triggered
from cosp.experiment import Experiment
from cosp.fleet.attack import ON_REPLIES, Attack
from cosp.fleet.attackers import by_data
from cosp.fleet.board import Board
from cosp.fleet.introduction import Introduction
from cosp.seeds import numpy_stream, torch_stream
from cosp.task.compression import rounded_
from cosp.task.payload import sends_whole_numbers
from cosp.task.task import Task
from cosp.trainer.samples import Samples
from cosp.trainer.store import Rows


def laid_out(experiment: Experiment) -> tuple[dict[str, Samples], Sequence[Rows]]:
    """Return all samples by split, and each client's rows of "train", those of doubles after them."""
    splits, rows = experiment.splits, experiment.rows
    poisoned = list(_doubles(experiment.boards))
    if not poisoned:
        return splits, rows
    train, parts, own = splits["train"], [splits["train"]], list(rows)
    for client in poisoned:
        taught, held_back = rows[client]
        attack = experiment.boards[client].attack
        assert attack is not None
        begin = sum(len(part.y) for part in parts)
        parts.append(_poisoned(experiment, client, attack, Samples(train.x[taught], train.y[taught])))
        own.append((np.arange(begin, begin + len(taught)), held_back))
    whole = Samples(np.concatenate([part.x for part in parts]), np.concatenate([part.y for part in parts]))
    return {**splits, "train": whole}, own


def _poisoned(experiment: Experiment, client: int, attack: Attack, samples: Samples) -> Samples:
    x, y = samples
    if attack.kind == "label_flip":
        return Samples(x, flipped(y, experiment.shape.classes))
    rng = numpy_stream(experiment.config.seed, "backdoor", client)
    chosen = rng.permutation(len(y))[: math.ceil(attack.share * len(y))]
    x, y = x.copy(), y.copy()
    x[chosen], y[chosen] = triggered(x[chosen], experiment.bright), attack.target
    return Samples(x, y)


class Attackers:
    """Of the boards of a simulated fleet."""

    def __init__(self, boards: Sequence[Board]) -> None:
        self._double_of = _doubles(boards)

    def work(self, task: Task, board: Board, sent_s: float) -> Task:
        """Return the task as it is done: by the double of who attacks by its data."""
        double = self._double_of.get(board.client)
        if double is None or board.attack is None or not board.attack.on_at(sent_s):
            return task
        return replace(task, client=double)

    def reply(
        self, task: Task, board: Board, sent_s: float, facts: dict[str, Any], vector: Tensor
    ) -> tuple[dict[str, Any], Tensor]:
        """Return what a board says that it found; in a dry run that holds no numbers to change."""
        attack = board.attack
        if attack is None or not attack.on_at(sent_s):
            return facts, vector
        if attack.kind == "lie_samples":
            return {**facts, "samples": claimed(attack, facts["samples"])}, vector
        if attack.kind not in ON_REPLIES or task.kind != "train" or not len(vector):
            return facts, vector
        changed = _changed(attack, task, vector)
        return facts, rounded_(changed, task.trained_spans) if sends_whole_numbers(task) else changed


def introduced(board: Board, honest: Introduction) -> Introduction:
    """Return what a board says of itself as it is asked first."""
    attack = board.attack
    if attack is None or attack.kind != "lie_samples" or not attack.on_at(0.0):
        return honest
    return replace(honest, samples=claimed(attack, honest.samples))


def claimed(attack: Attack, samples: int) -> int:
    return max(1, int(attack.factor * samples))


def _changed(attack: Attack, task: Task, vector: Tensor) -> Tensor:
    if attack.kind == "noise":
        noise = torch.randn(len(vector), generator=torch_stream(task.seed, "attack", task.client, task.version))
        return vector + attack.factor * float(vector.double().square().mean().sqrt()) * noise
    return vector * (-attack.factor if attack.kind == "sign_flip" else attack.factor)


def _doubles(boards: Sequence[Board]) -> dict[int, int]:
    """Return by client who attacks by its data, and which client of the trainer's its double is."""
    return {client: len(boards) + place for place, client in enumerate(by_data(boards))}
