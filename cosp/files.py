"""Files that are there whole or as they were; what goes wrong with one is one line."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cosp.errors import UserError


def write_whole(path: Path, text: str) -> None:
    """Write ``text`` beside ``path``, then put it in its place; what is no file, such as a pipe, is written to.

    OSError if that fails: ``path`` is as it was.
    """
    if path.exists() and not path.is_file():
        path.write_text(text, encoding="utf-8")
        return
    path = path.resolve()  # a link stays one
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise


def replace_text(path: Path, text: str) -> None:
    """``write_whole`` what ``--out`` asks for; UserError if that fails."""
    with _told(path):
        write_whole(path, text)


def check_writable(path: Path) -> None:
    """UserError if ``replace_text`` would fail here: what takes minutes asks first. ``path`` stays as it is."""
    if not path.exists() or path.is_file():  # a pipe is written to as it is
        with _told(path), tempfile.TemporaryFile(dir=path.resolve().parent):
            pass


def make_folder(path: Path) -> None:
    """Make a folder and those above it, unless it is there; UserError if that fails."""
    with _told(path):
        path.mkdir(parents=True, exist_ok=True)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror or error}); mend that or give another --out"
        ) from error


def shown_name(name: str) -> str:
    """Return a file's name as text: bytes in it that are no UTF-8, lone surrogates to Python, become U+FFFD."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
