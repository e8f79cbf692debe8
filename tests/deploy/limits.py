"""What a small machine has too little of: disk, memory beyond which the kernel kills, a processor."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

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


class ControlGroup:
    """A control group, of either version, with one ``controller``; its processes end when it is left."""

    def __init__(self, name: str, controller: str, *, limit: tuple[str, str]) -> None:
        """``limit``: the file that limits, in groups of the first version and of the second."""
        self.old = (CONTROL_GROUPS / controller).is_dir()
        self.folder = CONTROL_GROUPS / (controller if self.old else "") / name
        self._controller, self._limit = controller, limit[0 if self.old else 1]

    def prefix(self) -> list[str]:
        """Return what to put before a command to have it run within the limit."""
        return ["sh", "-c", f'echo $$ > {self.folder}/cgroup.procs && exec "$@"', "sh"]

    def __enter__(self) -> Self:
        self.folder.mkdir()
        if not (self.folder / self._limit).exists():
            self.folder.rmdir()
            raise OSError(f"{self.folder}: the {self._controller} controller is not on")
        return self

    def __exit__(self, *_: object) -> None:
        for line in (self.folder / "cgroup.procs").read_text(encoding="ascii").split():
            with suppress(ProcessLookupError):
                os.kill(int(line), 9)
        with suppress(OSError):  # its last process may not be gone yet: an empty group costs nothing
            self.folder.rmdir()


class SlowProcessor(ControlGroup):
    """Lets all its processes together have a share of one core."""

    PERIOD_US = 100_000

    def __init__(self, name: str, share: float) -> None:
        super().__init__(name, "cpu", limit=("cpu.cfs_quota_us", "cpu.max"))
        self._quota_us = round(share * self.PERIOD_US)

    def __enter__(self) -> Self:
        super().__enter__()
        text = str(self._quota_us) if self.old else f"{self._quota_us} {self.PERIOD_US}"
        (self.folder / self._limit).write_text(text, encoding="ascii")
        return self

    @property
    def periods(self) -> tuple[int, int]:
        """Return in how many periods its processes wanted to run, and in how many they were held back."""
        lines = (self.folder / "cpu.stat").read_text(encoding="ascii").splitlines()
        found = dict(line.split() for line in lines)
        return int(found["nr_periods"]), int(found["nr_throttled"])


class MemoryLimit(ControlGroup):
    """Has processes that the kernel kills when they outgrow it."""

    def __init__(self, name: str) -> None:
        super().__init__(name, "memory", limit=("memory.limit_in_bytes", "memory.max"))
        self._usage, self._events = (
            ("memory.usage_in_bytes", "memory.oom_control") if self.old else ("memory.current", "memory.events")
        )

    def leave(self, more_bytes: int) -> None:
        """Allow the processes that are there ``more_bytes`` beyond what they use now."""
        used = int((self.folder / self._usage).read_text(encoding="ascii"))
        (self.folder / self._limit).write_text(str(used + more_bytes), encoding="ascii")

    @property
    def kills(self) -> int:
        """How many processes the kernel has killed for it."""
        lines = (self.folder / self._events).read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))


def available(folder: Path) -> str | None:
    """Return why there can be no small disk or no memory limit on this machine, None if both can be had."""
    try:
        with small_disk(folder, 1), MemoryLimit(f"cosp-try-{os.getpid()}"):
            return None
    except (OSError, subprocess.CalledProcessError) as error:
        return str(error)


def slow_processor_available() -> str | None:
    """Return why no processor can be made slow here, None if one can."""
    try:
        with SlowProcessor(f"cosp-try-{os.getpid()}", 0.5):
            return None
    except OSError as error:
        return str(error)
