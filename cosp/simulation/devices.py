"""On which device each worker computes, and how many of them share a GPU."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from multiprocessing.connection import Connection

import torch

from cosp.amounts import amount
from cosp.errors import UserError
from cosp.simulation import forks

CONTEXT_BYTES = 600_000_000
"""What a process takes of a GPU before any task: CUDA's context, kernels, libraries' workspaces."""


@dataclass(frozen=True)
class Gpu:
    """A GPU as torch names it, and what is free of its memory."""

    name: str
    free_bytes: int


def seen_gpus() -> tuple[Gpu, ...]:
    """Return this machine's GPUs. They are looked at in another process, so that this one never opens CUDA."""
    if not torch.cuda.device_count():
        return ()
    context = forks.context()
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_tell_gpus, args=(theirs,))
    process.start()
    theirs.close()
    try:
        found: tuple[Gpu, ...] = ours.recv()
    except EOFError:
        raise UserError("--devices: the GPUs cannot be looked at; see nvidia-smi, or take --devices cpu") from None
    finally:
        process.join()
    return found


def _tell_gpus(pipe: Connection) -> None:
    names = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    pipe.send(tuple(Gpu(name, torch.cuda.mem_get_info(name)[0]) for name in names))


def chosen(text: str | None, gpus: Sequence[Gpu]) -> tuple[Gpu, ...]:
    """Return the GPUs that ``--devices`` names: none for ``cpu``, all for ``cuda`` and by default.

    UserError if one of them is not among ``gpus``.
    """
    if text is None or (text == "cuda" and gpus):
        return tuple(gpus)
    if text == "cpu":
        return ()
    known = {gpu.name: gpu for gpu in gpus}
    here = f"this machine has {len(gpus) or 'none'}" + (f" ({', '.join(known)})" if gpus else ", take cpu")
    if text == "cuda":
        raise UserError(f"--devices cuda: asks for GPUs, {here}")
    names = text.split(",")
    if len(set(names)) != len(names) or not all(re.fullmatch(r"cuda:\d+", name) for name in names):
        raise UserError(f"--devices {text}: must be cpu, cuda or GPUs by number, e.g. --devices cuda:0,cuda:1")
    for name in names:
        if name not in known:
            raise UserError(f"--devices {text}: asks for {name}, {here}")
    return tuple(known[name] for name in names)


def places(gpus: Sequence[Gpu], *, workers: int | None, cores: int, task_bytes: int) -> tuple[str, ...]:
    """Return the device of every worker.

    ``workers`` None: one a core; on GPUs as many as cores and as tasks of ``task_bytes`` fit each, side by side.
    UserError if not even one fits.
    """
    if not gpus:
        return ("cpu",) * (workers or cores)
    need = CONTEXT_BYTES + task_bytes
    for gpu in gpus:
        if need > gpu.free_bytes:
            raise UserError(
                f"--devices {gpu.name}: a worker needs {amount(need, 'bytes')}, {amount(gpu.free_bytes, 'bytes')} are "
                "free: end what else uses it, or take a smaller model, a smaller batch or --devices cpu"
            )
    if workers is None:
        share = max(1, cores // len(gpus))
        turns = zip_longest(*([gpu.name] * min(share, gpu.free_bytes // need) for gpu in gpus))
        return tuple(name for name in chain.from_iterable(turns) if name is not None)
    return tuple(gpus[i % len(gpus)].name for i in range(workers))
