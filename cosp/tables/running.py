"""Runs cells side by side, one after another in each process; one that was interrupted goes on from its checkpoint."""

from __future__ import annotations

import json
import signal
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import psutil

from cosp.config import Config, load_config
from cosp.errors import CospError, UserError
from cosp.experiment import load_experiment
from cosp.files import make_folder, replace_text
from cosp.held import hold_alone
from cosp.processor import usable_cores
from cosp.run.directory import RunDirectory
from cosp.simulation import forks
from cosp.simulation.simulate import simulate
from cosp.tables.origin import origin
from cosp.tables.plan import NO_PART_OF_A_RESULT, Cell

CELL_BYTES = 1_500_000_000
"""What a cell may take, torch included; bounds how many run at a time."""
REPORT_S = 0.5
ORIGIN = "origin.json"
REMEDY = "remove it, or give another --out"


@dataclass(frozen=True)
class News:
    """What is told of a cell: the share that is done, and at its end the error, empty if it has a result."""

    cell: Cell
    share: float
    error: str | None = None


def default_jobs() -> int:
    """Return one job a core, as far as free memory allows."""
    return max(1, min(usable_cores(), psutil.virtual_memory().available // CELL_BYTES))


@contextmanager
def in_use(folder: Path) -> Iterator[None]:
    """Keep other tables from running cells in ``folder``, which is made if need be; UserError if one does."""
    make_folder(folder)
    try:
        held = hold_alone(folder)
    except BlockingIOError:
        raise UserError(
            f"{folder}: is in use by another cosp table; wait for that, end it, or give another --out"
        ) from None
    try:
        yield
    finally:
        held.release()


def finished(folder: Path) -> bool:
    return (folder / "metrics.json").exists() and (folder / ORIGIN).exists()


def check_folder(config: Config, folder: Path) -> None:
    """UserError if ``folder`` holds a run of another configuration, or one that trained nothing."""
    path, names = folder / "config.yaml", set(NO_PART_OF_A_RESULT)
    if not (folder / "rows.jsonl").exists():  # a cell that failed before is no run
        return
    if load_config(path).model_dump(exclude=names) != config.model_dump(exclude=names):
        raise UserError(f"{folder}: holds a run of another configuration than is asked for now; {REMEDY}")
    if RunDirectory(folder).is_dry():
        raise UserError(f"{folder}: holds a dry run, which trained nothing; {REMEDY}")


def run_cells(
    cells: Sequence[Cell],
    folder: Path,
    *,
    jobs: int,
    workers: int,
    data_dir: Path | None,
    on_news: Callable[[News], None] = lambda news: None,
) -> dict[str, str]:
    """Run ``cells`` below ``folder`` in ``jobs`` processes and return the errors of those that failed, by name.

    A process runs one cell after another, as its imports take as long as a short cell's training; ``workers`` more
    train for each, if any. One that dies takes its cell with it, and another stands in for it.
    """
    waiting, busy, failed = deque(cells), dict[Connection, _Job](), dict[str, str]()
    try:
        while waiting or busy:
            while waiting and len(busy) < jobs:
                job = _Job.start(waiting.popleft(), folder, workers, data_dir)
                busy[job.pipe] = job
            for pipe in wait(list(busy)):
                assert isinstance(pipe, Connection)
                job = busy[pipe]
                news = job.hear()
                if news.error is not None:
                    if waiting and job.process.is_alive():
                        job.give(waiting.popleft())
                    else:
                        busy.pop(pipe).end()
                if news.error:
                    failed[news.cell.name] = news.error
                on_news(news)
    finally:
        for job in busy.values():  # interrupted: their cells go on from their checkpoints another time
            job.process.terminate()
            job.end()
    return failed


@dataclass
class _Job:
    """The table's end of a process that runs cells."""

    process: BaseProcess
    pipe: Connection
    cell: Cell
    """The one that it runs."""

    @staticmethod
    def start(cell: Cell, folder: Path, workers: int, data_dir: Path | None) -> _Job:
        context = forks.context()
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, folder, workers, data_dir))
        with forks.undisturbed():
            process.start()
        theirs.close()
        job = _Job(process, ours, cell)
        job.give(cell)
        return job

    def give(self, cell: Cell) -> None:
        self.cell = cell
        with suppress(BrokenPipeError):  # it has died: that is heard next
            self.pipe.send(cell)

    def hear(self) -> News:
        try:
            share, error = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            return News(self.cell, 1.0, f"its process died (exit code {self.process.exitcode}); fewer --jobs need less")
        return News(self.cell, share, error)

    def end(self) -> None:
        """Let the process end, which asks for another cell, and wait until it has."""
        self.pipe.close()
        self.process.join()


def _work(pipe: Connection, folder: Path, workers: int, data_dir: Path | None) -> None:
    """Run the cells that come; of each tell the share done, and at the end the error or that there is none.

    If the table's own process is gone, telling fails and so the run ends; it goes on with the next table.
    """
    signal.signal(signal.SIGTERM, _end)
    forks.leave_signals_to_parent()
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            cell: Cell = pipe.recv()
            pipe.send((1.0, _error_of(cell, folder / cell.name, workers, data_dir, pipe)))


def _end(number: int, frame: object) -> None:
    """End this process so that its workers and temporary files go, too; once is enough for that."""
    signal.signal(number, signal.SIG_IGN)
    sys.exit(1)


def _error_of(cell: Cell, folder: Path, workers: int, data_dir: Path | None, pipe: Connection) -> str:
    """Run one cell and return what it raised, empty if nothing: that is the cell's result, and the others go on."""
    try:
        run_cell(cell, folder, workers=workers, data_dir=data_dir, on_row=_teller(pipe, cell))
    except CospError as raised:
        return str(raised)
    except Exception:
        return traceback.format_exc()
    return ""


def run_cell(
    cell: Cell, folder: Path, *, workers: int, data_dir: Path | None, on_row: Callable[[dict[str, Any]], None]
) -> None:
    """Run one cell, or go on with it if it was interrupted; where it ran is written last."""
    begun = (folder / "rows.jsonl").exists()
    here = origin()  # now: the source may be another when the run ends
    directory = RunDirectory.reopen(folder) if begun else RunDirectory.create(folder, cell.config)
    if workers:
        forks.start()
    experiment = load_experiment(cell.config, data_dir=data_dir)
    simulate(experiment, directory, workers=workers, on_row=on_row, resume=begun)
    replace_text(folder / ORIGIN, json.dumps(here, indent=2) + "\n")


def _teller(pipe: Connection, cell: Cell) -> Callable[[dict[str, Any]], None]:
    """Return what tells the share of a run that is done, now and then."""
    server, told_s = cell.config.server, 0.0

    def on_row(row: dict[str, Any]) -> None:
        nonlocal told_s
        if row["kind"] == "round" and time.monotonic() - told_s > REPORT_S:
            told_s = time.monotonic()
            by_time = row["virtual_s"] / server.until_s if server.until_s else 0.0
            by_version = row["version"] / server.versions if server.versions else 0.0
            pipe.send((min(1.0, max(by_time, by_version)), None))

    return on_row
