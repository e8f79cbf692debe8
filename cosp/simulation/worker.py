"""One worker process of the simulator: the trainer behind a pipe, its weights in shared memory, one torch thread."""

from __future__ import annotations

import ctypes
import json
import signal
import traceback
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import torch

from cosp.task.serial import task_from_json
from cosp.trainer.store import open_store
from cosp.trainer.trainer import Trainer


def work(pipe: Connection, memory_name: str, slot_floats: int, store: str) -> None:
    """Serve tasks until the pipe closes.

    A request is (slot, floats, task as JSON); the slot holds the weights. The answer is (slot, floats, facts as JSON),
    the slot then holding the result vector, or (slot, -1, traceback) if the task raised.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    keep_freed_memory()
    trainer = Trainer(*open_store(Path(store)))
    memory = SharedMemory(name=memory_name)
    try:
        while True:
            slot, floats, text = pipe.recv()
            vector = slot_of(memory, slot, slot_floats)
            try:
                facts, found = trainer.run(task_from_json(text), vector[:floats])
                vector[: found.numel()] = found
                answer = (slot, found.numel(), json.dumps(facts))
            except Exception:  # whatever a task raises is that task's result; the worker lives on
                answer = (slot, -1, traceback.format_exc())
            pipe.send(answer)
            del vector
    except (EOFError, BrokenPipeError):
        pass
    finally:
        memory.close()


def keep_freed_memory() -> None:
    """Have the C library keep what a step frees for the next one; else every step asks the kernel for it anew."""
    trim_threshold, mmap_threshold, largest_bytes = -1, -3, 32 << 20
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc's alone
    if mallopt is not None:
        mallopt(mmap_threshold, largest_bytes)
        mallopt(trim_threshold, 8 * largest_bytes)


def slot_of(memory: SharedMemory, slot: int, slot_floats: int) -> torch.Tensor:
    """Return slot number ``slot`` of a worker's shared memory as a float32 vector."""
    return torch.frombuffer(memory.buf, dtype=torch.float32, count=slot_floats, offset=4 * slot * slot_floats)
