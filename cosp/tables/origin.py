"""Where a result comes from: this machine, and the code that runs on it."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import cosp
from cosp.processor import processor_name, usable_cores
from cosp.run.directory import versions

UNKNOWN = "unknown"


def origin() -> dict[str, str]:
    """Return processor, cores, operating system, versions and commit, each in words."""
    return {
        "cpu": processor_name(),
        "cores": str(usable_cores()),
        "system": f"{platform.system()} {platform.release()}",
        "versions": " ".join(f"{name}={value}" for name, value in versions().items()),
        "commit": _commit(),
    }


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
