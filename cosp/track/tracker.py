"""What a tracker can do: one small file each implements it on a real library."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from cosp.errors import UserError


@runtime_checkable
class Tracker(Protocol):
    """One run in one store."""

    @property
    def run(self) -> str:
        """What finds the run again in its store."""

    def log(self, version: int, values: Mapping[str, float]) -> None:
        """Add values at a version of the model; what was added is on disk soon."""

    def files(self, version: int, pictures: Mapping[str, Path], others: list[Path]) -> None:
        """Add figures (PNG) and, where the store takes any, other files."""

    def close(self, *, failed: bool) -> None:
        """End the run in the store; it can be opened again."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Where a run is tracked. ``place``: of the store; ``run``: None begins one, else that goes on after ``after``."""

    place: str
    name: str
    settings: Mapping[str, Any]
    """The run's configuration by dotted key."""
    run: str | None = None
    after: int = -1


def library(name: str, extra: str) -> Any:
    """Return a library; UserError that names the extra if it is not there."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and not name.startswith(error.name):
            raise
        raise UserError(
            f"--track {extra}: {name.split('.')[0]} is not installed; pip install 'cosp[{extra}]'"
        ) from None


def folder_of(wanted: Wanted) -> Path:
    """Make the store's folder; UserError if that cannot be."""
    path = Path(wanted.place)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--track: {path} cannot be written ({error.strerror}); give another place") from None
    return path.resolve()
