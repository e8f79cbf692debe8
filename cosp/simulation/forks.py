"""Worker processes are forks of one that has imported all they need; started early, it does so while data is read."""

from __future__ import annotations

import multiprocessing
import signal
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import ForkServerContext


def start() -> None:
    """Start the workers' common parent, unless it runs; nothing waits for it before the first worker.

    It never sees Ctrl-C, which would end its imports with a traceback: it ends when this process does.
    """
    multiprocessing.get_context("forkserver").set_forkserver_preload(["cosp.simulation.preload"])
    resource_tracker.ensure_running()  # which unblocks the signal, so not later
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # what is started now inherits it
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def context() -> ForkServerContext:
    """Return where workers come from."""
    start()
    return multiprocessing.get_context("forkserver")
