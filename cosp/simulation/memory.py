"""Memory that two processes share. It has no name, so that nothing of it outlives them, however they end.

Neither is it taken from /dev/shm, which containers keep small, and all of it is there from the start: a page that
cannot be had later ends a process with a bus error.
"""

from __future__ import annotations

import errno
import mmap
import os
import shutil
import tempfile
from collections.abc import Callable
from multiprocessing.reduction import DupFd
from typing import Any

import torch

from cosp.amounts import amount
from cosp.errors import UserError
from cosp.simulation.room import free_memory_bytes

FLOAT_BYTES = 4


class SharedFloats:
    """float32 values that this process and one that it starts both see: an argument of that process."""

    def __init__(self, floats: int) -> None:
        size_bytes = max(1, floats) * FLOAT_BYTES
        self._descriptor = reserved(size_bytes)
        self._mapped = mmap.mmap(self._descriptor, size_bytes)
        self.vector = torch.frombuffer(self._mapped, dtype=torch.float32, count=floats)

    def sent(self) -> None:
        """The other process has been started: only the mapping is needed from now on."""
        os.close(self._descriptor)

    def __reduce__(self) -> tuple[Callable[..., SharedFloats], tuple[Any, int]]:
        return _received, (DupFd(self._descriptor), self.vector.numel())


def _received(descriptor: Any, floats: int) -> SharedFloats:
    memory = SharedFloats.__new__(SharedFloats)
    memory._descriptor = descriptor.detach()
    memory._mapped = mmap.mmap(memory._descriptor, max(1, floats) * FLOAT_BYTES)
    memory.vector = torch.frombuffer(memory._mapped, dtype=torch.float32, count=floats)
    memory.sent()
    return memory


def reserved(size_bytes: int) -> int:
    """Return a descriptor of ``size_bytes`` without a name: in memory, or in the folder of temporary files.

    UserError if neither has room.
    """
    refused = []
    for where, make, free_bytes in (
        ("in memory", _in_memory, free_memory_bytes),
        ("in folder", _in_folder, _disk_free),
    ):
        try:
            return make(size_bytes)
        except OSError as error:
            refused.append(f"{where}: {error.strerror}, {amount(free_bytes(), 'bytes')} free")
    raise UserError(
        f"a worker needs {amount(size_bytes, 'bytes')} to exchange weights ({'; '.join(refused)} at "
        f"{tempfile.gettempdir()}); use fewer --workers, or set TMPDIR to a folder with more room"
    )


def _in_memory(size_bytes: int) -> int:
    if size_bytes > free_memory_bytes():  # asked for it all the same, the kernel would end a process instead
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
    return _filled(os.memfd_create("cosp"), size_bytes)


def _in_folder(size_bytes: int) -> int:
    with tempfile.TemporaryFile(buffering=0) as file:
        return _filled(os.dup(file.fileno()), size_bytes)


def _disk_free() -> int:
    return shutil.disk_usage(tempfile.gettempdir()).free


def _filled(descriptor: int, size_bytes: int) -> int:
    """Return ``descriptor``, its file ``size_bytes`` long and all of them there; OSError if there is no room."""
    try:
        os.posix_fallocate(descriptor, 0, size_bytes)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
