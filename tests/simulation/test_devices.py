"""Devices of workers, on GPUs that are made up; and that no worker descends from a process that has opened CUDA."""

from __future__ import annotations

import os
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from typing import Any

import psutil
import pytest
import torch

from cosp.errors import UserError
from cosp.models import ViTShape
from cosp.simulation import forks
from cosp.simulation.devices import CONTEXT_BYTES, Gpu, chosen, places, seen_gpus
from cosp.simulation.inline import InlinePool
from cosp.simulation.worker import NO_MEMORY, answer
from cosp.task.task import Task
from cosp.trainer.samples import Samples
from cosp.trainer.trainer import Trainer

TASK_BYTES = 1_000_000_000
NEED = CONTEXT_BYTES + TASK_BYTES
TWO = (Gpu("cuda:0", 4 * NEED), Gpu("cuda:1", 2 * NEED + 1))


def where(*gpus: Gpu, workers: int | None = None, cores: int = 16) -> str:
    found = places(gpus, workers=workers, cores=cores, task_bytes=TASK_BYTES)
    return " ".join(name.removeprefix("cuda:") for name in found)


def test_without_a_gpu_there_is_a_worker_a_core() -> None:
    assert where(cores=3) == "cpu cpu cpu"
    assert where(cores=3, workers=2) == "cpu cpu"


def test_a_gpu_has_as_many_workers_as_tasks_fit_its_memory_and_never_more_than_its_share_of_the_cores() -> None:
    assert where(*TWO) == "0 1 0 1 0 0"
    assert where(*TWO, cores=4) == "0 1 0 1"
    assert where(*TWO, cores=1) == "0 1"
    assert where(*TWO, workers=5) == "0 1 0 1 0"  # as they were asked for


def test_a_gpu_that_holds_not_one_task_is_refused() -> None:
    with pytest.raises(UserError, match=r"--devices cuda:0: a worker needs 1.6 GB, 1 GB are free"):
        where(Gpu("cuda:0", 10**9))


def test_devices_are_all_gpus_or_those_that_are_named() -> None:
    assert chosen(None, TWO) == chosen("cuda", TWO) == TWO
    assert chosen("cuda:1", TWO) == TWO[1:]
    assert chosen("cuda:1,cuda:0", TWO) == TWO[::-1]
    assert chosen("cpu", TWO) == chosen(None, ()) == chosen("cpu", ()) == ()


@pytest.mark.parametrize(
    ("text", "gpus", "said"),
    [
        ("cuda:2", TWO, r"--devices cuda:2: asks for cuda:2, this machine has 2 \(cuda:0, cuda:1\)"),
        ("cuda:0,cuda:3", TWO, r"--devices cuda:0,cuda:3: asks for cuda:3, this machine has 2"),
        ("cuda", (), "--devices cuda: asks for GPUs, this machine has none, take cpu"),
        ("cuda:0", (), "--devices cuda:0: asks for cuda:0, this machine has none, take cpu"),
        ("cuda:0,cuda:0", TWO, "--devices cuda:0,cuda:0: must be cpu, cuda or GPUs by number"),
        ("gpu", TWO, "--devices gpu: must be cpu, cuda or GPUs by number"),
        ("", TWO, "--devices : must be cpu, cuda or GPUs by number"),
    ],
)
def test_devices_that_are_not_there_are_one_line(text: str, gpus: tuple[Gpu, ...], said: str) -> None:
    with pytest.raises(UserError, match=said):
        chosen(text, gpus)


def test_gpus_are_looked_at_without_opening_cuda_here() -> None:
    assert len(seen_gpus()) == torch.cuda.device_count()
    assert not torch.cuda.is_initialized()


def tell_descent(pipe: Connection) -> None:
    pipe.send((os.getppid(), torch.cuda.is_initialized()))


def test_a_worker_is_a_fork_of_the_fork_server_which_is_none_of_this_process() -> None:
    context = forks.context()
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=tell_descent, args=(theirs,))
    process.start()
    theirs.close()
    parent, opened = ours.recv()
    process.join()
    assert parent == forkserver._forkserver._forkserver_pid != os.getpid()
    assert "forkserver" in " ".join(psutil.Process(parent).cmdline())  # it was executed, so it inherits no CUDA
    assert not opened


SHAPE = ViTShape(image=8, patch=4, channels=1, classes=10, dim=8, blocks=1, heads=2, hidden=8, exits=(1,))
TASK = Task("evaluate", 3, 2, 0, 0, SHAPE, SHAPE.full_plan(), split="test", first=0, last=1)


def exhausted(trainer: Trainer, task: Task, weights: torch.Tensor) -> Any:
    raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def test_a_gpu_without_memory_is_no_failure_of_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trainer, "run", exhausted)
    said = "cpu: has no memory left for client 3: evaluate at version 2, "
    code, text = answer(Trainer({}, {}, device="cpu"), TASK, torch.empty(5), 5)
    assert code == NO_MEMORY
    assert text.startswith(said)
    samples = Samples(*(value.numpy() for value in (torch.zeros(1, 1, 8, 8), torch.zeros(1, dtype=torch.int64))))
    pool = InlinePool({"train": samples}, [], device="cpu")
    with pytest.raises(UserError, match=said):
        pool.result(pool.submit(TASK, 5, lambda slot: None, priority=0.0))
