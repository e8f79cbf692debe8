"""A run's log, ``RUN/run.log``: when it began, every version, what was refused or lost and why, how it ended.

A line is the time of day, in UTC, a level and a text. ``rows.jsonl`` says the same and more, but not the time of day:
its bytes are the same whenever a simulation runs.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Any

import cosp
from cosp.errors import CospError

LOG = "run.log"

Row = dict[str, Any]


class _Lines(logging.Handler):
    """Writes each line at once, and raises what goes wrong: a full disk is for the run to tell."""

    def __init__(self, file: FileIO) -> None:
        super().__init__()
        self._file = file

    def emit(self, record: logging.LogRecord) -> None:
        self._file.write(f"{self.format(record)}\n".encode())


@contextmanager
def logged(folder: Path, name: str) -> Iterator[logging.Logger]:
    """Open the log in ``folder`` for the run ``name``; what goes wrong, and warnings meanwhile, are in it, too."""
    with FileIO(folder / LOG, "ab") as file:
        yield from _logged(file, name)


def _logged(file: FileIO, name: str) -> Iterator[logging.Logger]:
    handler = _Lines(file)
    form = logging.Formatter("%(asctime)sZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
    form.converter = time.gmtime
    handler.setFormatter(form)
    log = logging.Logger("cosp")  # nobody's child: what others log is no matter of this run
    log.addHandler(handler)
    show = warnings.showwarning

    def show_and_log(message: Warning | str, *where: Any, **more: Any) -> None:
        log.warning("%s", message)
        show(message, *where, **more)

    log.info("%s: cosp %s", name, cosp.__version__)
    warnings.showwarning = show_and_log
    try:
        yield log
        end: tuple[int, str, bool] = (logging.INFO, "ended", False)
    except CospError as error:
        end = (logging.ERROR, str(error), False)
        raise
    except Exception:
        end = (logging.ERROR, "ended by what nobody expected", True)
        raise
    except BaseException as error:
        end = (logging.WARNING, f"interrupted by {type(error).__name__}", False)
        raise
    finally:
        warnings.showwarning = show
        level, text, trace = end
        with suppress(OSError):  # what ends a run may be that the disk is full
            log.log(level, "%s", text, exc_info=trace)


def note(log: logging.Logger, row: Row) -> None:
    """Write down what ``row`` says, if it is news: a version, or what did not go well."""
    kind = row["kind"]
    if kind == "round":
        judged = row["evaluation"]
        accuracy = "" if judged is None else f", accuracy {judged['chosen_accuracy']:.4f}"
        log.info(
            "version %d by %s: %d arrivals, %d in flight%s",
            row["version"], row["closed_by"], row["arrivals"], row["in_flight"], accuracy,
        )  # fmt: skip
    elif kind == "arrival" and not row["accepted"]:
        log.warning("%s, %s of version %d: %s", _whose(row), row["task"], row["base_version"], _why(row))
    elif kind in ("refused", "ban"):
        log.warning("%s: %s: %s", _whose(row), kind, _why(row))
    elif kind == "budget":
        log.info("%s: can afford something else now; sits out: %s", _whose(row), row["sits_out"] or "no")
    elif kind == "resume":
        log.info("goes on after version %d", row["version"])
    elif kind == "end":
        log.warning("ends early: %s", _why(row))


def _whose(row: Row) -> str:
    client, board, node = row.get("client"), row.get("board"), row.get("node")
    if client is not None:
        return f"client {client}" + (f" ({board})" if board else "")
    return "nobody's reply" if node is None else f"node {node}"


def _why(row: Row) -> str:
    return ": ".join(str(row[key]) for key in ("reason", "detail") if row.get(key))
