"""How much memory is free to a process: on the machine, and within the limits of its container."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def free_memory_bytes(root: Path = Path("/")) -> int:
    """Return what is free of the machine's memory, or of a control group's limit if that is less.

    What files take of it, kept for another reading, counts as free.
    """
    return max(0, min([_available(root), *_left_in_groups(root)]))


def _available(root: Path) -> int:
    return 1024 * _figures(root / "proc/meminfo")["MemAvailable:"]


def _left_in_groups(root: Path) -> Iterator[int]:
    """Yield what each group that this process is in, and each around it, has left of its limit."""
    groups = root / "proc/self/cgroup"
    for line in groups.read_text(encoding="utf-8").splitlines() if groups.exists() else ():
        _, controllers, path = line.split(":", 2)
        if not controllers:  # version 2
            top, limit, used, cache = root / "sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            top, limit, used, cache = (
                root / "sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
            )  # fmt: skip
        else:
            continue
        group = top / path.strip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(top) and (folder / limit).exists():
                most = (folder / limit).read_text(encoding="utf-8").strip()
                if most != "max":
                    kept = _figures(folder / "memory.stat").get(cache, 0)
                    yield int(most) - int((folder / used).read_text(encoding="utf-8")) + kept


def _figures(path: Path) -> dict[str, int]:
    """Return the first figure of every line by the word before it."""
    lines = (line.split() for line in path.read_text(encoding="utf-8").splitlines())
    return {words[0]: int(words[1]) for words in lines if len(words) > 1 and words[1].isdigit()}
