"""Worker processes are forks of one that has imported all they need; started early, it does so while data is read."""

from __future__ import annotations

import ctypes
import errno
import multiprocessing
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import ForkServerContext
from pathlib import Path

import psutil

from cosp.errors import UserError

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What terminals and batch systems send to all processes of a run, and the run's own process alone decides on."""
FILES = 4096
"""Open files that a process may have, if its hard limit lets it."""
FILES_A_PROCESS = 5
FILES_OF_OUR_OWN = 40


def start() -> None:
    """Start the workers' common parent, unless it runs; nothing waits for it before the first worker.

    It never sees Ctrl-C and its like, which would end its imports with a traceback: it ends when this process does.
    """
    allow_files()
    multiprocessing.get_context("forkserver").set_forkserver_preload(["cosp.simulation.preload"])
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        resource_tracker.ensure_running()  # which unblocks the other two, so not later
        with undisturbed():  # what is started now inherits it
            forkserver.ensure_running()
    except OSError as error:  # its socket lies among the temporary files
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise
        raise UserError(
            f"TMPDIR: {tempfile.gettempdir()}: worker processes cannot be started ({error}); set TMPDIR to a folder "
            "with a shorter path that can be written"
        ) from None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def context() -> ForkServerContext:
    """Return where workers come from."""
    start()
    return multiprocessing.get_context("forkserver")


@contextmanager
def undisturbed() -> Iterator[None]:
    """Put signals that end this process off until the end, so that a process half started is not left behind."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_signals_to_parent() -> None:
    """In a process that was started: ignore Ctrl-C and a closed terminal; SIGTERM, which the parent sends, ends it."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def end_with_parent() -> None:
    """In a process that was started: be killed when the fork server ends, which it does as soon as the run does."""
    on_parents_death = 1  # PR_SET_PDEATHSIG
    ctypes.CDLL(None).prctl(on_parents_death, signal.SIGKILL)


def be_first_to_go() -> None:
    """In a process that was started: where memory runs out, be ended before the run's own, which no other replaces."""
    with suppress(OSError):  # a system that hides it
        Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")


def allow_files() -> None:
    """Raise the limit of open files, which some systems set low, as far as this process may."""
    own = psutil.Process()
    soft, hard = own.rlimit(psutil.RLIMIT_NOFILE)
    wanted = FILES if hard == psutil.RLIM_INFINITY else min(FILES, hard)
    if soft != psutil.RLIM_INFINITY and soft < wanted:
        own.rlimit(psutil.RLIMIT_NOFILE, (wanted, hard))


def check_files(processes: int, option: str) -> None:
    """UserError if so many ``processes``, as ``option`` asks for, need more open files than this process may have."""
    limit, need = psutil.Process().rlimit(psutil.RLIMIT_NOFILE)[0], FILES_OF_OUR_OWN + FILES_A_PROCESS * processes
    if limit != psutil.RLIM_INFINITY and need > limit:
        raise UserError(
            f"{option} {processes}: need about {need} open files, this process may have {limit}; raise that (ulimit "
            f"-n {need}) or use fewer {option}"
        )
