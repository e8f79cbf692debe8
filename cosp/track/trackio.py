"""Trackio: its local SQLite store in a folder."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cosp.track.tracker import Wanted, folder_of, library

EXTRA = "trackio"
LIBRARY = "trackio"
PROJECT = "cosp"


class Trackio:
    """``place`` is a folder: ``TRACKIO_DIR=PLACE trackio show --project cosp`` shows it."""

    def __init__(self, wanted: Wanted) -> None:
        os.environ["TRACKIO_DIR"] = str(folder_of(wanted))  # read as it is imported
        self._trackio = library(LIBRARY, EXTRA)
        self.run = wanted.run or self._free(wanted.name)
        with _quiet():
            self._run: Any = self._trackio.init(
                project=PROJECT,
                name=self.run,
                resume="must" if wanted.run else "never",
                config={key: str(value) for key, value in wanted.settings.items()},
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )

    def _free(self, name: str) -> str:
        storage = library("trackio.sqlite_storage", EXTRA).SQLiteStorage
        taken = set(storage.get_runs(PROJECT))
        names = (name if n == 1 else f"{name}-{n}" for n in range(1, 1_000_000))
        return next(candidate for candidate in names if candidate not in taken)

    def log(self, version: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=version)

    def files(self, version: int, pictures: Mapping[str, Path], others: list[Path]) -> None:
        images = {f"figures/{name}": self._trackio.Image(str(path)) for name, path in pictures.items()}
        self._run.log(images, step=version)

    def close(self, *, failed: bool) -> None:
        with _quiet():
            self._run.finish()


def _quiet() -> contextlib.AbstractContextManager[object]:
    """Its words would stand among a command's own, on stdout."""
    return contextlib.redirect_stdout(io.StringIO())
