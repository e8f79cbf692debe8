"""SIGTERM (docker stop, a batch system's time limit) and SIGHUP (a closed terminal) end a command as Ctrl-C does.

What was begun is put away by the same ``finally`` blocks, and the exit code says which signal it was. Further signals
are ignored meanwhile: impatience would leave processes and files behind.
"""

from __future__ import annotations

import os
import signal
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def heeded() -> Iterator[None]:
    """Have these signals end what is done meanwhile, but for those that whoever started this process has it ignore
    (nohup). After one of them all are ignored, to the end of the process.
    """
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: handler for number in ENDING if (handler := signal.getsignal(number)) is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, _end)
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is _end:
                signal.signal(number, handler)


def _end(number: int, frame: FrameType | None) -> None:
    for other in ENDING:
        signal.signal(other, signal.SIG_IGN)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    if number == signal.SIGHUP:
        _forget_terminal()
    sys.exit(128 + number)


def _forget_terminal() -> None:
    """Send to nowhere what would be shown on a terminal that is gone: writing there fails from now on."""
    for stream in (1, 2):
        if stat.S_ISCHR(os.fstat(stream).st_mode) and not os.isatty(stream):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream)
            os.close(nowhere)
