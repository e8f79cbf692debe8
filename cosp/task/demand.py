"""What a task asks of a board: arithmetic, memory, bytes there and back."""

from __future__ import annotations

from functools import lru_cache
from typing import Tuple

from cosp.submodel.footprint import Footprint, Step
from cosp.submodel.frozen import NOTHING, Frozen
from cosp.submodel.passes import FLOAT_BYTES
from cosp.submodel.plan import GROUPS, wire_bytes, words_bytes
from cosp.submodel.shape import TransformerShape, layout_of
from cosp.submodel.variants import variant_bytes, variant_step
from cosp.task.bits import bits_sent
from cosp.task.contents import CONTENT_BYTES
from cosp.task.moments import moments_bytes, moments_length
from cosp.task.sent import sent_bytes
from cosp.task.task import EVALUATION_BATCH, Task


def sizes_within(task: Task) -> Tuple[Footprint, ...]:
    """Return what the smaller submodels cost that are trained with the task's own."""
    return tuple(map(task.footprint_of, task.within))


def training_step(task: Task) -> Step:
    """Return what one step of local training asks of a board."""
    training = task.training
    step = task.local.step(task.size, sizes_within(task), training.batch_size, training.optimizer)
    return step + variant_step(task.shape, task.size, training.batch_size) + _remembering(task)


def _remembering(task: Task) -> Step:
    """What it adds to a step that the submodel as received teaches, too: kernels over a few numbers a sample."""
    alone = len(task.shape.exits_within(task.plan.depth)) == 1  # it had no teacher without
    return Step(0, 0, (24 if alone else 2) if task.transfer.remembers(task.version) else 0)


def download_bytes(task: Task) -> int:
    """Return the payload of the instruction: the weights that the client has not kept, which it has, the plans, and
    which words they are about.
    """
    plans = (task.plan, *task.within)
    chosen = sum(wire_bytes(task.shape.sizes, plan.depth) for plan in plans)
    words = 0 if task.plan.words is None else words_bytes(task.shape.words)
    kept = CONTENT_BYTES * len(task.kept)
    return sent_bytes(task) + kept + chosen + words


def upload_bytes(task: Task) -> int:
    """Return the payload of the reply: the weight change, a bit a masked weight, or float32 scores or moments."""
    if task.kind == "train":
        change = task.compression.upload_bytes(task.trained, tensor_count(task.shape, task.plan.depth, task.frozen))
        return (bits_sent(task) + 7) // 8 or change
    if task.kind == "moments":
        return FLOAT_BYTES * moments_length(task.shape, task.plan.depth)
    return 4 * task.plan.depth * sum(task.shape.sizes.of(group) for group in GROUPS)


def peak_memory_bytes(task: Task) -> int:
    """Return the memory that the task needs at its peak, as predicted."""
    size = task.size
    if task.kind == "train":
        batch = task.training.batch_size
        local = task.local.training_bytes(size, sizes_within(task), batch, task.training.optimizer)
        return local + variant_bytes(task.shape, size, batch)
    if task.kind == "score":
        return task.scoring.peak_bytes(size, task.scoring.held_samples) if task.scoring else size.scoring_bytes(1)
    if task.kind == "moments":
        return moments_bytes(task.shape, size, task.training.batch_size)
    if task.kind == "serve":  # the weights twice: a set that comes in is put together beside the one that answers
        return size.evaluation_bytes(task.training.batch_size)
    return size.evaluation_bytes(judging_batch(task))


def judged_samples(task: Task, samples: int, test_samples: int) -> int:
    """Return how many samples the submodel predicts beside its steps: its own test data, as received and as
    trained, and what it trains on, where it is its own teacher as received.
    """
    return 2 * test_samples + (samples if task.transfer.remembers(task.version) else 0)


def judging_batch(task: Task) -> int:
    """Return how many samples are judged at a time: where training fits, judging itself must fit too."""
    if task.kind != "train":
        return EVALUATION_BATCH
    size = task.size
    beside = size.evaluation_bytes(0) + FLOAT_BYTES * size.trained  # the gradients' vector stays
    free = size.training_bytes(task.training.batch_size, task.training.optimizer) - beside
    return max(1, min(EVALUATION_BATCH, free // size.evaluation.held_bytes))


@lru_cache(maxsize=256)
def tensor_count(shape: TransformerShape, depth: int, frozen: Frozen = NOTHING) -> int:
    """Return how many tensors of a submodel of ``depth`` blocks are trained."""
    return sum(entry.held(depth) and not frozen.holds(entry) for entry in layout_of(shape).values())
