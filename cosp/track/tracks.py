"""The tracks of a run: rows in, values to each tracker, and a note of how far each has come.

``track.json`` in the run directory says which stores a run is in and up to which version, so that a resumed run goes on
there and adds no step twice. It is written before the step: what a killed process leaves out is one step at most.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from cosp.config import Config, dotted
from cosp.errors import UserError
from cosp.files import write_whole
from cosp.track.mlflow import MLflow
from cosp.track.scalars import Scalars
from cosp.track.tensorboard import TensorBoard
from cosp.track.tracker import Tracker, Wanted, library
from cosp.track.trackio import Trackio
from cosp.track.wandb import WandB

Row = dict[str, Any]

NAME = "track.json"
TRACKERS: dict[str, Callable[[Wanted], Tracker]] = {
    "tensorboard": TensorBoard,
    "mlflow": MLflow,
    "trackio": Trackio,
    "wandb": WandB,
}


@dataclass
class Noted:
    """How far a run has come in one store. ``judged``: the version that was judged only as the run ended."""

    place: str
    run: str | None = None
    version: int = -1
    judged: int = -1


def check_tracks(texts: Sequence[str]) -> dict[str, str | None]:
    """Return tracker -> place (None: the run directory) of ``NAME`` or ``NAME=PLACE``; UserError if one cannot be."""
    found: dict[str, str | None] = {}
    for text in texts:
        name, _, place = text.partition("=")
        if name not in TRACKERS:
            raise UserError(f"--track: must be one of {', '.join(TRACKERS)}, with =PLACE or not, got {text!r}")
        if "://" in place:
            raise UserError(f"--track {name}: the place must be a folder of this machine, got {place}")
        library(name, name)
        found[name] = place or None
    return found


class Tracks(AbstractContextManager["Tracks"]):
    """Follows the run of ``config`` in ``folder`` in those stores, and in those that it is in already."""

    def __init__(self, folder: Path, config: Config, wanted: dict[str, str | None]) -> None:
        self._folder = folder.resolve()
        self._scalars = Scalars()
        self._read = False
        self._noted = self._read_notes()
        for name, place in wanted.items():
            default = str(self._folder / "track" / name)
            self._noted.setdefault(name, Noted(place=str(Path(place).absolute()) if place else default))
        settings = dict(dotted(config.model_dump(mode="json")))
        self._trackers: dict[str, Tracker] = {}
        for name, noted in self._noted.items():
            self._trackers[name] = TRACKERS[name](
                Wanted(place=noted.place, name=folder.name, settings=settings, run=noted.run, after=noted.version)
            )
            noted.run = self._trackers[name].run
        self._write_notes()

    def on_row(self, row: Row) -> None:
        """Take note of a row that was just written."""
        if self._trackers and not self._read:  # of a resumed run, all that was kept comes first
            self._read = True
            lines = (self._folder / "rows.jsonl").read_bytes().splitlines()[:-1]
            for line in lines:
                self._add(json.loads(line))
        if self._trackers:
            self._add(row)

    def finish(self, reports: Sequence[Path]) -> None:
        """Add the figures and the files of a run that has ended, its reports among them, and close."""
        if not self._trackers:
            return
        from cosp.report import read_run  # here, as matplotlib should not keep the first row waiting
        from cosp.track.pictures import draw_pictures

        run = read_run(self._folder)
        version = run.rounds[-1].version if run.rounds else 0
        others = [*reports, *(self._folder / name for name in ("rows.jsonl", "metrics.json", "config.yaml"))]
        with tempfile.TemporaryDirectory(prefix="cosp-") as folder:
            pictures = draw_pictures(run, Path(folder))
            for tracker in self._trackers.values():
                tracker.files(version, pictures, others)
                tracker.close(failed=False)
        self._trackers = {}

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            for tracker in self._trackers.values():
                tracker.close(failed=True)

    def _add(self, row: Row) -> None:
        values = self._scalars.add(row)
        if not values:
            return
        version, late = int(row["version"]), row["closed_by"] == "end"
        behind = [name for name, noted in self._noted.items() if (noted.judged if late else noted.version) < version]
        for name in behind:
            setattr(self._noted[name], "judged" if late else "version", version)
        if behind:
            self._write_notes()
        for name in behind:
            self._trackers[name].log(version, values)

    def _read_notes(self) -> dict[str, Noted]:
        path = self._folder / NAME
        try:
            return {name: Noted(**noted) for name, noted in json.loads(path.read_text(encoding="utf-8")).items()}
        except FileNotFoundError:
            return {}
        except (AttributeError, OSError, TypeError, ValueError) as error:
            raise UserError(f"{path}: cannot be read ({error}); remove it to track the run anew") from None

    def _write_notes(self) -> None:
        if self._noted:
            notes = {name: asdict(noted) for name, noted in self._noted.items()}
            try:
                write_whole(self._folder / NAME, json.dumps(notes, indent=2) + "\n")
            except OSError as error:
                raise UserError(f"{self._folder / NAME}: cannot be written ({error.strerror}); mend that") from None
