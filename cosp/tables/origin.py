"""Where a result comes from: this machine, and the code that runs on it."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

import cosp
from cosp.run.directory import versions

UNKNOWN = "unknown"


def origin() -> dict[str, str]:
    """Return processor, cores, operating system, versions and commit, each in words."""
    return {
        "cpu": _cpu(),
        "cores": str(len(os.sched_getaffinity(0))),
        "system": f"{platform.system()} {platform.release()}",
        "versions": " ".join(f"{name}={value}" for name, value in versions().items()),
        "commit": _commit(),
    }


def _cpu() -> str:
    """Return the processor's name, which x86 kernels tell and ARM ones do not."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _commit() -> str:
    """Return the commit of cosp's own source, "-dirty" if it differs from it; unknown for an installed package."""
    source = Path(cosp.__file__).parent
    commit = _git(source, "rev-parse", "--short=12", "HEAD")
    if commit is None:
        return UNKNOWN
    return f"{commit}-dirty" if _git(source, "status", "--porcelain", "--", ".") else commit


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        found = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()
