"""What a small machine has too little of: a disk of so many bytes, and memory beyond which the kernel kills."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

FILLER = "filler"
CONTROL_GROUPS = Path("/sys/fs/cgroup")


@contextmanager
def small_disk(folder: Path, size_mib: int) -> Iterator[Path]:
    """Mount a file system in memory of that size at ``folder``, which is made."""
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path) -> None:
    """Write until nothing more can be written."""
    with (disk / FILLER).open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass


def make_room(disk: Path) -> None:
    (disk / FILLER).unlink()


class MemoryLimit:
    """A control group, of either version, whose processes the kernel kills when they outgrow it."""

    def __init__(self, name: str) -> None:
        old = (CONTROL_GROUPS / "memory").is_dir()
        self.folder = CONTROL_GROUPS / ("memory" if old else "") / name
        self._limit, self._usage, self._events = (
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.oom_control")
            if old
            else ("memory.max", "memory.current", "memory.events")
        )

    def prefix(self) -> list[str]:
        """Return what to put before a command to have it run within the limit."""
        return ["sh", "-c", f'echo $$ > {self.folder}/cgroup.procs && exec "$@"', "sh"]

    def leave(self, more_bytes: int) -> None:
        """Allow the processes that are there ``more_bytes`` beyond what they use now."""
        used = int((self.folder / self._usage).read_text(encoding="ascii"))
        (self.folder / self._limit).write_text(str(used + more_bytes), encoding="ascii")

    @property
    def kills(self) -> int:
        """How many processes the kernel has killed for it."""
        lines = (self.folder / self._events).read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))

    def __enter__(self) -> MemoryLimit:
        self.folder.mkdir()
        if not (self.folder / self._limit).exists():
            self.folder.rmdir()
            raise OSError(f"{self.folder}: the memory controller is not on")
        return self

    def __exit__(self, *_: object) -> None:
        for line in (self.folder / "cgroup.procs").read_text(encoding="ascii").split():
            with suppress(ProcessLookupError):
                os.kill(int(line), 9)
        with suppress(OSError):  # its last process may not be gone yet: an empty group costs nothing
            self.folder.rmdir()


def available(folder: Path) -> str | None:
    """Return why there can be no small disk or no memory limit on this machine, None if both can be had."""
    try:
        with small_disk(folder, 1), MemoryLimit(f"cosp-try-{os.getpid()}"):
            return None
    except (OSError, subprocess.CalledProcessError) as error:
        return str(error)
