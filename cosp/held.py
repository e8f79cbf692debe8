"""What a living process holds: run directories in use, temporary folders.

The kernel lets go of a file's lock when its process ends, however it ends. So nothing stays locked, and what a killed
process has left behind is told from what is in use: in another container, too, where its process id says nothing.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shlex
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from cosp.errors import UserError

PREFIX = "cosp-"
HELD = "held"
"""The file in a temporary folder that its process holds."""
NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EBADF}
"""What a file system without locks answers, or, the last, a network's that has none for folders."""


class Hold:
    """Holds ``path``, a folder or a file that is made if it is not there, until ``release`` or this process ends.

    BlockingIOError if another process holds it; any other OSError if it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = -1
        try:
            self._descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT, 0o666)
        except PermissionError:
            self._descriptor = os.open(path, os.O_RDONLY)  # a network's file system alone must be able to write it
        self.certain = True
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                self.release()
                raise
            self.certain = False

    def release(self) -> None:
        """Let go; once more does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __del__(self) -> None:
        self.release()


def hold_alone(path: Path) -> Hold:
    """Hold ``path``; warn if its file system knows no locks, as then nobody sees to it."""
    held = Hold(path)
    if not held.certain:
        warnings.warn(f"{path}: its file system knows no locks; see to it that no other process uses it", stacklevel=2)
    return held


def holder(path: Path) -> str:
    """Return which process of this user has ``path`` open: its number and command, as far as they can be seen."""
    real = str(path.resolve())
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and any(file.path == real for file in process.open_files()):
                return f"process {process.pid} ({shlex.join(process.cmdline())[:200]})"
    return "another process"


@contextmanager
def scratch_folder(purpose: str) -> Iterator[Path]:
    """Yield a temporary folder that is gone afterwards; those that killed processes left are removed first."""
    remove_left_behind()
    folder, held = _new_folder(purpose)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        held.release()


@contextmanager
def filling(folder: Path) -> Iterator[None]:
    """UserError if what is written into a ``scratch_folder`` meanwhile finds no room."""
    try:
        yield
    except OSError as error:
        why = error.strerror or error  # numpy says how much it could write, and no more
        raise UserError(
            f"{folder.parent}: cannot be written ({why}): make room there, or have TMPDIR name another folder"
        ) from error


def _new_folder(purpose: str) -> tuple[Path, Hold]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{purpose}-"))
        try:
            return folder, Hold(folder / HELD)
        except (BlockingIOError, FileNotFoundError):  # another process has just taken it for left behind
            continue


def remove_left_behind() -> None:
    """Remove this user's temporary folders that no process holds."""
    for mark in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{HELD}"):
        with suppress(OSError):
            _remove_unless_held(mark)


def _remove_unless_held(mark: Path) -> None:
    if mark.parent.lstat().st_uid != os.getuid() or mark.parent.is_symlink():
        return
    held = Hold(mark)
    if held.certain:
        shutil.rmtree(mark.parent, ignore_errors=True)
    held.release()
