"""What a task costs a board in virtual time: from plan to seconds, joules and bytes."""

from __future__ import annotations

from cosp.client.task import Task
from cosp.fleet.cost import Cost, Work, cost, jitter
from cosp.fleet.fleet import Board
from cosp.seeds import numpy_stream
from cosp.submodel.footprint import footprint


def work_of(task: Task, *, samples: int, test_samples: int) -> Work:
    """Return what ``task`` asks of a board that trains on ``samples`` and judges itself on ``test_samples`` twice."""
    size = footprint(task.shape, task.plan.counts)
    batch, optimizer = task.training.batch_size, task.training.optimizer
    steps, flops, extra = task.training.steps(samples), size.step_flops(batch), 2 * test_samples * size.forward_flops
    if task.kind == "score":
        if task.scoring is None:
            raise ValueError("a score task needs scoring settings")
        batch, read = task.scoring.batch_size, min(samples, task.scoring.samples)
        passes = task.scoring.gate_epochs if task.scoring.how == "gates" else 1
        # towards gates alone the backward pass computes no weight gradients: 2x, not 3x, the forward pass
        steps, flops, extra = passes * -(-read // batch), 2 * size.forward_flops * batch, 0
    return Work(
        steps=steps,
        batch=batch,
        step_flops=flops,
        step_bytes=size.step_bytes(batch, optimizer),
        step_kernels=size.kernels,
        extra_flops=extra,
        download_bytes=task.download_bytes,
        upload_bytes=task.upload_bytes,
    )


def price(task: Task, board: Board, *, samples: int, test_samples: int, sigma: float) -> Cost:
    """Return the task's cost on ``board``; ``sigma`` is the deviation of the log of its compute time."""
    rng = numpy_stream(task.seed, "jitter", task.client, task.version, task.turn, task.kind)
    return cost(board, work_of(task, samples=samples, test_samples=test_samples), jitter(rng, sigma))


def drops(task: Task, board: Board) -> float | None:
    """Return after which share of its time the task is lost, or None if it is not."""
    rng = numpy_stream(task.seed, "dropout", task.client, task.version, task.turn, task.kind)
    lost, share = rng.random(2)
    return float(share) if lost < board.dropout else None
