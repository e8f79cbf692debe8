"""Worker processes are forks of one that has imported all they need; started early, it does so while data is read."""

from __future__ import annotations

import multiprocessing
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext


def context() -> ForkServerContext:
    """Return where workers come from."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(["cosp.runtime.preload"])
    return found


def start() -> None:
    """Start the workers' common parent, unless it runs; nothing waits for it before the first worker."""
    context()
    forkserver.ensure_running()
