"""What a task costs a board in virtual time: from plan to seconds, joules and bytes."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from typing import Any

from cosp.errors import ConfigError
from cosp.fleet.board import Board
from cosp.fleet.cost import Cost, Work, cost, jitter, task_s
from cosp.fleet.introduction import Introduction
from cosp.methods.assignment import RoundTime
from cosp.seeds import numpy_stream
from cosp.submodel.budget import SubmodelShape
from cosp.submodel.footprint import Footprint, Step
from cosp.submodel.plan import Units
from cosp.submodel.shape import TransformerShape
from cosp.task.demand import download_bytes, judged_samples, judging_batch, training_step, upload_bytes
from cosp.task.moments import moments_step
from cosp.task.task import Task
from cosp.task.training import TrainSettings

ANY_VERSION = 1_000_000
"""Beyond every warm-up."""


def work_of(task: Task, *, samples: int, test_samples: int) -> Work:
    """Return what ``task`` asks of a board that trains on ``samples`` and judges itself on ``test_samples``."""
    size = task.size
    if task.kind == "score":
        return _scoring(task, size, samples)
    if task.kind == "moments":
        return _summing(task, size, samples)
    batch = task.training.batch_size
    step = training_step(task)
    judged = size.evaluation_step(judging_batch(task))
    rounds = judged_samples(task, samples, test_samples) / judging_batch(task)
    return _work(
        task,
        step,
        steps=task.training.steps(samples),
        batch=batch,
        precision=task.precision,
        extra_flops=rounds * judged.flops,
        extra_bytes=rounds * judged.bytes_moved,
        extra_kernels=math.ceil(rounds) * judged.kernels,
    )


def _scoring(task: Task, size: Footprint, samples: int) -> Work:
    """Return what importance learning asks: no optimizer, and as many steps more as micro-batches are smaller."""
    scoring = task.scoring
    if scoring is None:
        raise ValueError("a score task needs scoring settings")
    held, read = max(1, scoring.held_samples), min(samples, scoring.samples)
    step = scoring.step(size, held)
    passes = {"gates": scoring.gate_epochs, "magnitude": 0}.get(scoring.how, 1)
    whole, rest = divmod(read, scoring.batch_size)
    steps = passes * (whole * math.ceil(scoring.batch_size / held) + math.ceil(rest / held))
    return _work(task, step, steps=steps, batch=held)


def _summing(task: Task, size: Footprint, samples: int) -> Work:
    """Return what summing features asks: each sample is read once, forward alone."""
    batch = min(task.training.batch_size, samples)
    step = moments_step(task.shape, size, batch)
    return _work(task, step, steps=math.ceil(samples / batch), batch=batch)


def serving_work(task: Task, *, bytes_down: int, bytes_up: int) -> Work:
    """Return what it asks of a board to answer what came since it was last asked, to take ``bytes_down`` of a new set
    before and to send ``bytes_up`` of what it chose after.
    """
    samples, batch = task.last - task.first, task.training.batch_size
    step = task.size.evaluation_step(batch)
    work = _work(task, step, steps=math.ceil(samples / batch), batch=batch)
    return replace(work, download_bytes=bytes_down, upload_bytes=bytes_up)


def _work(task: Task, step: Step, *, steps: int, batch: int, **more: Any) -> Work:
    """Return the work of so many equal steps, of loading a batch for each, and of the way there and back."""
    return Work(
        steps=steps,
        batch=batch,
        step_flops=step.flops,
        step_bytes=step.bytes_moved,
        step_kernels=step.kernels,
        load_bytes=task.size.loading_bytes(batch),
        download_bytes=download_bytes(task),
        upload_bytes=upload_bytes(task),
        **more,
    )


def price(task: Task, board: Board, *, samples: int, test_samples: int, sigma: float) -> Cost:
    """Return the task's cost on ``board``; ``sigma`` is the deviation of the log of its compute time."""
    rng = numpy_stream(task.seed, "jitter", task.client, task.version, task.turn, task.kind)
    return cost(board, work_of(task, samples=samples, test_samples=test_samples), jitter(rng, sigma))


def declared_round_s(model: TransformerShape, training: TrainSettings, **parts: Any) -> RoundTime:
    """Return what prices a training task before its units are known, by what the client declares.

    ``parts`` are further fields of a method's tasks, e.g. ``compression``. Jitter, heat and a shared link are left out.
    """

    @lru_cache(maxsize=4096)
    def task_of(shape: SubmodelShape, gpu: bool, words: Units | None) -> Task:
        plan = replace(shape.prefix(model), words=words)
        return Task("train", 0, ANY_VERSION, 0, 0, model, plan, training=training.on(gpu), **parts)

    def round_s(client: Introduction, shape: SubmodelShape) -> float:
        if client.speed is None:
            raise ConfigError(
                "it declares no speed, which target_round_s needs: leave it out, and take rule memory or rate"
            )
        task = task_of(shape, client.gpu, client.words)
        work = work_of(task, samples=client.samples, test_samples=client.test_samples)
        if work.precision == "mixed" and client.speed.half_flops_per_s is None:
            raise ConfigError(
                "it declares no half-precision rate, which target_round_s needs: take training.precision float32"
            )
        return task_s(client.speed, work)

    return round_s


def drops(task: Task, board: Board) -> float | None:
    """Return after which share of its time the task is lost, or None if it is not."""
    if not board.dropout:
        return None
    rng = numpy_stream(task.seed, "dropout", task.client, task.version, task.turn, task.kind)
    lost, share = rng.random(2)
    return float(share) if lost < board.dropout else None
