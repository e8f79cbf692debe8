"""Run an experiment on a simulated fleet: the server loop over a virtual grid and a pool of workers."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from cosp.experiment import Experiment, single_thread
from cosp.fleet.introduction import Introduction
from cosp.held import scratch_folder
from cosp.processor import usable_cores
from cosp.run import checkpoint as checkpoints
from cosp.run.directory import RunDirectory
from cosp.run.evaluation import on_pool
from cosp.run.pool import Pool
from cosp.run.serve import serve
from cosp.simulation.dry import DryPool
from cosp.simulation.inline import InlinePool
from cosp.simulation.pool import WorkerPool
from cosp.simulation.virtual_grid import VirtualGrid
from cosp.submodel.layout import parameter_count
from cosp.submodel.shape import layout_of
from cosp.trainer.store import write_store

Row = dict[str, Any]


def default_workers() -> int:
    """Return one worker a core."""
    return usable_cores()


@contextmanager
def _collecting_seldom() -> Iterator[None]:
    """Collect garbage seldom, as a fleet is many long-lived objects (the default rate costs some per cent), and in the
    end: a run refers to itself, and with its data would stay until others have ended.
    """
    before = gc.get_threshold()
    gc.set_threshold(50_000, 20, 50)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.collect()


@_collecting_seldom()
def simulate(
    experiment: Experiment,
    directory: RunDirectory,
    *,
    workers: int,
    on_row: Callable[[Row], None] = lambda row: None,
    resume: bool = False,
    dry: bool = False,
) -> Row:
    """Run to the end and return the metrics, which are also written; rows depend on config and seed alone.

    ``workers`` 0 trains in this process. ``dry`` runs the timeline only: nothing is trained or evaluated.
    """
    started = time.monotonic()
    introductions = experiment.introductions
    single_thread()
    saved = checkpoints.load(directory.checkpoints) if resume else None
    with _pool(experiment, introductions, workers, dry=dry) as pool:
        grid = VirtualGrid(
            experiment.fleet,
            introductions,
            pool,
            sigma=experiment.config.jitter,
            begin=saved is None,
        )
        return serve(
            grid,
            experiment,
            directory,
            evaluate_with=None if dry else on_pool(pool),
            dry=dry,
            on_row=on_row,
            saved=saved,
            wall_started=started,
        )


@contextmanager
def _pool(experiment: Experiment, introductions: Sequence[Introduction], workers: int, *, dry: bool) -> Iterator[Pool]:
    """Start what trains: it maps the experiment's data, laid out in a temporary folder."""
    if dry:
        yield DryPool(introductions)
        return
    with scratch_folder("data") as store:
        write_store(store, experiment.splits, experiment.rows)
        if not workers:
            yield InlinePool(store=store)
            return
        with WorkerPool(workers, slot_floats=_slot_floats(experiment), store=store) as pool:
            yield pool


def _slot_floats(experiment: Experiment) -> int:
    """Return the longest vector that goes to a worker or comes back: a whole model, or the confusion counts."""
    shape = experiment.shape
    whole = parameter_count(layout_of(shape), (shape.sizes,) * shape.blocks)
    return max(whole, (len(shape.exits) + 1) * shape.classes**2)
