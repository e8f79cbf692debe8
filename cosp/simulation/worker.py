"""One worker process of the simulator: the trainer behind a pipe, its weights in shared memory, one torch thread."""

from __future__ import annotations

import ctypes
import json
import traceback
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from cosp.errors import CospError
from cosp.simulation.forks import be_first_to_go, end_with_parent, leave_signals_to_parent
from cosp.simulation.memory import SharedFloats
from cosp.task.serial import task_from_json
from cosp.trainer.store import open_store
from cosp.trainer.trainer import Trainer

READY = -1
"""In place of a slot: the worker has opened the data and waits for tasks."""


def work(pipe: Connection, memory: SharedFloats, slot_floats: int, store: str) -> None:
    """Say ``(READY, 0, "")``, or ``(READY, -1, why)`` if there are no data; then serve tasks until the pipe closes.

    A request is (slot, floats, task as JSON); the slot holds the weights. The answer is (slot, floats, facts as JSON),
    the slot then holding the result vector, or (slot, -1, traceback) if the task raised.
    """
    leave_signals_to_parent()
    end_with_parent()
    be_first_to_go()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    keep_freed_memory()
    try:
        trainer = Trainer(*open_store(Path(store)))
    except CospError as error:
        pipe.send((READY, -1, str(error)))
        return
    slots = memory.vector.view(-1, slot_floats)
    with suppress(EOFError, ConnectionError):
        pipe.send((READY, 0, ""))
        while True:
            slot, floats, text = pipe.recv()
            vector = slots[slot]
            try:
                facts, found = trainer.run(task_from_json(text), vector[:floats])
                vector[: found.numel()] = found
                answer = (slot, found.numel(), json.dumps(facts))
            except Exception:  # whatever a task raises is that task's result; the worker lives on
                answer = (slot, -1, traceback.format_exc())
            pipe.send(answer)


def keep_freed_memory() -> None:
    """Have the C library keep what a step frees for the next one; else every step asks the kernel for it anew."""
    trim_threshold, mmap_threshold, largest_bytes = -1, -3, 32 << 20
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc's alone
    if mallopt is not None:
        mallopt(mmap_threshold, largest_bytes)
        mallopt(trim_threshold, 8 * largest_bytes)
