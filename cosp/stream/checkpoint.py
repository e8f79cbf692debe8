"""Everything a stream needs to go on as if it had never stopped: ``state-W.json``, of the window W that ended last, and
the arrays that it names.

An array is a file that is named after what is in it, written once however many boards and checkpoints have it. The JSON
file is put in place last, so a process killed while writing leaves the previous checkpoint whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cosp.errors import UserError
from cosp.files import write_whole
from cosp.run.saved import check_settings, making_sense, newest, settings_of
from cosp.stream.settings import AdaptConfig
from cosp.submodel.slicing import State

FREE = ("checkpoint_every",)
"""Settings that may change in a stream that goes on."""


class Arrays:
    """The arrays of checkpoints, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._written = {path.stem for path in folder.glob("*.npy")}
        self._named: set[str] = set()

    def keep(self, array: NDArray[Any]) -> str:
        """Write ``array``, unless it is there, and return its name."""
        whole = np.ascontiguousarray(array)
        facts = f"{whole.dtype.str} {whole.shape} ".encode()
        name = hashlib.blake2b(facts + whole.tobytes(), digest_size=16).hexdigest()
        self._named.add(name)
        if name not in self._written:
            self._folder.mkdir(parents=True, exist_ok=True)
            fresh = self._folder / f".{os.getpid()}.fresh"
            with fresh.open("wb") as file:
                np.save(file, whole.reshape(array.shape))
            fresh.replace(self._folder / f"{name}.npy")
            self._written.add(name)
        return name

    def take(self, name: str) -> NDArray[Any]:
        """Return the array of a name; ValueError if it is lost or damaged."""
        try:
            found: NDArray[Any] = np.load(self._folder / f"{name}.npy", allow_pickle=False)
        except OSError as error:
            raise ValueError(str(error)) from error
        return found

    def sweep(self) -> None:
        """Remove what was not kept since the last sweep."""
        for name in self._written - self._named:
            (self._folder / f"{name}.npy").unlink(missing_ok=True)
        self._written, self._named = self._named, set()


@dataclass(frozen=True)
class Checkpoint:
    """As read from ``path``."""

    path: Path
    facts: dict[str, Any]

    @property
    def rows_bytes(self) -> int:
        return int(self.facts["rows_bytes"])

    def check(self, config: AdaptConfig, model: State) -> None:
        """UserError if the stream began with other settings, or on another trained model."""
        check_settings(self.path.parent.parent, self.facts["config"], settings_of(config), free=FREE, what="stream")
        if self.facts["model"] != checksum(model):
            raise UserError(
                f"{self.path.parent.parent}: cannot go on: {config.model.pretrained} holds another model than when the "
                "stream began; put it back, or begin anew with another --out"
            )

    def in_use(self) -> AbstractContextManager[None]:
        """Turn what its values make go wrong into UserError: it is damaged."""
        return making_sense(self.path, "stream")


def save(folder: Path, window: int, facts: Mapping[str, Any], arrays: Arrays) -> None:
    """Write a checkpoint after ``window``, whose arrays were kept, and remove older ones."""
    folder.mkdir(exist_ok=True)
    path = folder / f"state-{window:06d}.json"
    write_whole(path, json.dumps(facts))
    for old in folder.glob("state-*.json"):
        if old.name != path.name:
            old.unlink()
    arrays.sweep()


def load(folder: Path) -> Checkpoint | None:
    """Return the newest whole checkpoint, None if there is none; UserError if it cannot be read."""
    path = newest(folder)
    if path is None:
        return None
    try:
        read = Checkpoint(path, json.loads(path.read_text(encoding="utf-8")))
        if read.rows_bytes < 1:
            raise ValueError("there are no rows")
    except (OSError, LookupError, TypeError, ValueError) as error:
        raise UserError(f"{path}: the checkpoint cannot be read ({error}); start the stream anew") from error
    return read


def checksum(model: State) -> int:
    """Return a checksum of a model's weights."""
    found = 0
    for name in sorted(model):
        found = zlib.crc32(np.ascontiguousarray(model[name].numpy()).tobytes(), found)
    return found
