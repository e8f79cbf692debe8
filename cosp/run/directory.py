"""A run directory: the resolved config, one row a line, the metrics, the last checkpoint, the final model, the page."""

from __future__ import annotations

import json
import os
import platform
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from importlib.metadata import version
from io import FileIO
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

import cosp
from cosp.config import dump_config
from cosp.errors import UserError
from cosp.files import write_whole
from cosp.held import Hold, hold_alone, holder
from cosp.methods.rules import Settings

Row = dict[str, Any]

_ROW = json.JSONEncoder(sort_keys=True, allow_nan=False)  # json.dumps would make one a row

CONFIG = "config.yaml"
"""Also the file that a run's process holds."""
TRAINED = "trained.yaml"
"""The configuration of the run whose model was adapted here."""
NOW = "now.json"
"""What the run is doing right now, see ``cosp.run.now``."""
ENDS = {"versions", "until_s"}
"""What may change in a run that goes on."""
LIBRARIES = ("torch", "flwr", "numpy")
MEND = "mend that, then go on with --resume"
"""Said of what only a person can put right: starting the run again would not."""


class RunDirectory:
    """Writes what a run produces; rows are flushed as they come, so a killed run loses none."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.checkpoints = folder / "checkpoint"
        self.model = folder / "model"
        self._rows_path = folder / "rows.jsonl"
        self._hold: Hold | None = None

    @staticmethod
    def create(folder: Path, config: Settings) -> RunDirectory:
        """Make a new run directory, in use from now on; UserError if it cannot be written or already holds a run."""
        directory = RunDirectory(folder)
        with _begun_in(folder):
            folder.mkdir(parents=True, exist_ok=True)
            directory._check_empty()
            directory.hold()
            directory._check_empty()  # another run may have begun in between
            path = folder / CONFIG
            if (known := path.read_bytes()) and b"\nversions:" not in known:  # which a run writes
                raise UserError(f"{path}: is there already, and is no run's; give another --out")
            path.write_text(dump_config(config, versions()), encoding="utf-8")
        return directory

    @staticmethod
    def check_free(folder: Path) -> None:
        """UserError if ``folder`` holds a run already; nothing is made."""
        with _begun_in(folder):
            RunDirectory(folder)._check_empty()

    def _check_empty(self) -> None:
        if self._rows_path.exists():
            raise UserError(
                f"{self.folder}: holds a run already; give another --out, or --resume {self.folder} to go on with it"
            )

    @staticmethod
    def reopen(folder: Path) -> RunDirectory:
        """Return the directory of a run that is to go on, in use from now on; UserError if another process uses it."""
        directory = RunDirectory(folder)
        with directory.writing():
            directory.hold()
        return directory

    def hold(self) -> None:
        """Keep other processes from running here until ``release``, or until this one ends; UserError if one does."""
        if self._hold is not None:
            return
        path = self.folder / CONFIG
        try:
            self._hold = hold_alone(path)
        except BlockingIOError:
            raise UserError(f"{self.folder}: is in use by {holder(path)}; wait for that or end it") from None

    def release(self) -> None:
        if self._hold is not None:
            self._hold.release()
            self._hold = None

    def is_dry(self) -> bool:
        """Return whether the run that was begun here is a dry one; UserError if its rows are lost or unreadable."""
        if not self._rows_path.exists() and not (self.folder / "metrics.json").exists():
            return False  # it was killed before its first row
        try:
            with self._rows_path.open(encoding="utf-8") as file:
                return '"dry": true' in file.readline()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(
                f"{self._rows_path}: cannot be read ({error}); put the run's rows back, or begin it anew with another "
                "--out"
            ) from None

    def rows_bytes(self) -> int:
        """Return how long the rows are by now: what a checkpoint remembers."""
        return self._rows_path.stat().st_size if self._rows_path.exists() else 0

    def check_begun(self, opening: Iterable[Row], length_bytes: int) -> None:
        """UserError if there are fewer rows than a checkpoint remembers, or if they begin otherwise than with
        ``opening``, but for the run's end: then the run is of another experiment.
        """
        found_bytes = self.rows_bytes()
        if found_bytes < length_bytes:
            raise UserError(
                f"{self._rows_path}: must hold the checkpoint's {length_bytes} bytes, got {found_bytes}: rows are lost "
                "and the run cannot go on; begin it anew with another --out"
            )
        with self._rows_path.open("rb") as file:
            for row, line in zip(opening, file, strict=False):
                key, began, now = _first_change(line, row)
                if key:
                    raise UserError(
                        f"{self.folder}: cannot go on: {key} was {began!r} when the run began and is {now!r} now; put "
                        "it back, or begin anew with another --out"
                    )

    def cut_rows(self, length_bytes: int) -> None:
        """Forget the rows after a checkpoint, or all of them without one: the resumed run writes them again."""
        if self.rows_bytes():
            os.truncate(self._rows_path, length_bytes)

    def write_row(self, row: Row) -> None:
        line = f"{_ROW.encode(row)}\n".encode()
        with self.writing():
            while line:  # a disk that fills up takes a part
                line = line[self._rows.write(line) :]

    @cached_property
    def _rows(self) -> FileIO:
        """The file of rows, open from the first one on: opening takes longer than writing."""
        file = FileIO(self._rows_path, "ab")
        weakref.finalize(self, file.close)
        return file

    def write_profile(self, client: int, text: str) -> None:
        """Write what is known of a client's board by now; a fleet may name the file as a device."""
        folder = self.folder / "profiles"
        with self.writing():
            folder.mkdir(exist_ok=True)
            write_whole(folder / f"client-{client}.yaml", text)

    def keep_tokenizer(self, text: str) -> None:
        """Write the tokenizer that cuts this run's texts into words; UserError if the run began with another."""
        path = self.folder / "tokenizer.json"
        with self.writing():
            if not path.exists():
                write_whole(path, text)
            elif path.read_text(encoding="utf-8") != text:
                raise UserError(
                    f"{path}: is another tokenizer than the one the data and data.tokenizer give now, with which the "
                    "run cannot go on; put them back, or begin anew with another --out"
                )

    def write_metrics(self, metrics: Row) -> None:
        text = json.dumps(metrics, indent=2, sort_keys=True, allow_nan=False)
        with self.writing():
            write_whole(self.folder / "metrics.json", text + "\n")

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Turn what goes wrong with a write into UserError: a full disk is mended, and the run goes on."""
        try:
            yield
        except (OSError, SafetensorError) as error:
            why = (isinstance(error, OSError) and error.strerror) or str(error)
            raise UserError(f"{self.folder}: cannot be written ({why}); {MEND} {self.folder}") from error


@contextmanager
def _begun_in(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); give another --out") from error


def _first_change(line: bytes, row: Row) -> tuple[str, Any, Any]:
    """Return the first key, but for those of the run's end, in which ``line`` says other than ``row``: was and is."""
    try:
        began = dict(json.loads(line))
    except (TypeError, ValueError):
        return "a row", line, row
    now = json.loads(_ROW.encode(row))
    whose = f"client {row['client']}'s " if row["kind"] == "client" else ""
    changed = (key for key in sorted((began.keys() | now.keys()) - ENDS) if began.get(key) != now.get(key))
    return next(((whose + key, began.get(key), now.get(key)) for key in changed), ("", None, None))


def config_of(folder: Path) -> Path:
    """Return the configuration of the run in ``folder``; UserError if there is none."""
    path = folder / CONFIG
    if not path.is_file():
        raise UserError(f"{folder}: holds no run to go on with (no config.yaml); give the directory of a run")
    return path


def trained_config_of(folder: Path) -> Path:
    """Return the configuration that the model in ``folder``, or in the one above, was trained by: the run's own, or of
    an adapted one that of the run whose boards were deployed; UserError if there is none.
    """
    found = next((path for path in (folder / TRAINED, folder.parent / TRAINED) if path.is_file()), None)
    return found or config_of(folder)


def versions() -> dict[str, str]:
    """Return the versions that a result may depend on."""
    libraries = {name: version(name) for name in LIBRARIES}
    return {"cosp": cosp.__version__, "python": platform.python_version(), **libraries}
