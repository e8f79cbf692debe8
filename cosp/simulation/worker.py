"""One worker process of the simulator: the trainer behind a pipe, its weights in shared memory, one torch thread."""

from __future__ import annotations

import ctypes
import json
import traceback
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from torch import Tensor

from cosp.errors import CospError
from cosp.run.pool import named
from cosp.simulation.forks import be_first_to_go, end_with_parent, leave_signals_to_parent
from cosp.simulation.memory import SharedFloats
from cosp.task.serial import task_from_json
from cosp.task.task import Task
from cosp.trainer.store import open_store
from cosp.trainer.trainer import Trainer

NO_MEMORY = -2
READY = -1
"""In place of a slot: the worker has opened the data and waits for tasks."""


def work(pipe: Connection, memory: SharedFloats, slot_floats: int, store: str, device: str) -> None:
    """Say ``(READY, 0, "")``, or ``(READY, -1, why)`` if there are no data; then serve tasks until the pipe closes.

    A request is (slot, floats, task as JSON); the slot holds the weights. The answer is (slot, floats, facts as JSON),
    the slot then holding the result vector, or (slot, below 0, why): see ``answer``.
    """
    leave_signals_to_parent()
    end_with_parent()
    be_first_to_go()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    keep_freed_memory()
    try:
        trainer = Trainer(*open_store(Path(store)), device=device)
    except CospError as error:
        pipe.send((READY, -1, str(error)))
        return
    slots = memory.vector.view(-1, slot_floats)
    with suppress(EOFError, ConnectionError):
        pipe.send((READY, 0, ""))
        while True:
            slot, floats, text = pipe.recv()
            pipe.send((slot, *answer(trainer, task_from_json(text), slots[slot], floats)))


def answer(trainer: Trainer, task: Task, vector: Tensor, floats: int) -> tuple[int, str]:
    """Do ``task`` on the first ``floats`` of ``vector``; return how many it found, which lie there now, and the facts.

    (-1, traceback) if it raised, (NO_MEMORY, why) if its device has no memory for it.
    """
    try:
        facts, found = trainer.run(task, vector[:floats])
        vector[: found.numel()] = found
        return found.numel(), json.dumps(facts)
    except torch.cuda.OutOfMemoryError:
        torch.cuda.empty_cache()
        return NO_MEMORY, no_memory(trainer, task)
    except Exception:  # whatever a task raises is that task's result; the worker lives on
        return -1, traceback.format_exc()


def no_memory(trainer: Trainer, task: Task) -> str:
    """Return the line for a GPU on which too many workers are: that is this machine's matter, not the client's."""
    return (
        f"{trainer.device}: has no memory left for {named(task)}; use fewer --workers or other --devices; --resume "
        "goes on from the last checkpoint"
    )


def keep_freed_memory() -> None:
    """Have the C library keep what a step frees for the next one; else every step asks the kernel for it anew."""
    trim_threshold, mmap_threshold, largest_bytes = -1, -3, 32 << 20
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc's alone
    if mallopt is not None:
        mallopt(mmap_threshold, largest_bytes)
        mallopt(trim_threshold, 8 * largest_bytes)
