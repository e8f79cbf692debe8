"""Run an experiment on a simulated fleet: the server loop over a virtual grid and a pool of workers."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from cosp.experiment import Experiment, single_thread
from cosp.fleet.introduction import Introduction
from cosp.held import filling, scratch_folder
from cosp.processor import usable_cores
from cosp.run import checkpoint as checkpoints
from cosp.run.directory import RunDirectory
from cosp.run.evaluation import on_pool
from cosp.run.pool import Pool
from cosp.run.serve import serve
from cosp.simulation.attackers import laid_out
from cosp.simulation.devices import chosen, places, seen_gpus
from cosp.simulation.dry import DryPool
from cosp.simulation.inline import InlinePool
from cosp.simulation.pool import WorkerPool
from cosp.simulation.ray_cluster import ray_pool
from cosp.simulation.virtual_grid import VirtualGrid
from cosp.submodel.footprint import footprint
from cosp.submodel.layout import parameter_count
from cosp.submodel.shape import layout_of
from cosp.task.moments import moments_length
from cosp.trainer.store import write_store

Row = dict[str, Any]

Engine = Literal["local", "ray", "inline"]
"""Where tasks are done: by worker processes here, by actors of a Ray cluster, by this process itself."""


def default_workers() -> int:
    """Return one worker a core."""
    return usable_cores()


@contextmanager
def _collecting_seldom() -> Iterator[None]:
    """Collect garbage seldom, as a fleet is many long-lived objects (the default rate costs some per cent), and in the
    end: a run refers to itself, and with its data would stay until others have ended.

    What was there before, mostly torch, is not looked through: that takes longer than a short run.
    """
    before = gc.get_threshold()
    gc.set_threshold(50_000, 20, 50)
    gc.freeze()
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.collect()
        gc.unfreeze()


@_collecting_seldom()
def simulate(
    experiment: Experiment,
    directory: RunDirectory,
    *,
    workers: int | None,
    on_row: Callable[[Row], None] = lambda row: None,
    resume: bool = False,
    dry: bool = False,
    engine: Engine = "local",
    address: str | None = None,
    devices: str | None = None,
) -> Row:
    """Run to the end and return the metrics, which are also written; rows depend on config and seed alone.

    ``workers`` None is as many as cores and GPUs have room for, 0 trains in this process, as ``engine`` "inline" does.
    ``address`` is that of a Ray cluster. ``devices``: "cpu", "cuda" or GPUs by number; None is all GPUs that there are.
    ``dry`` runs the timeline only: nothing is trained or evaluated.
    """
    started = time.monotonic()
    introductions = experiment.introductions
    single_thread()
    saved = checkpoints.load(directory.checkpoints) if resume else None
    with _pool(
        experiment, introductions, workers, engine="dry" if dry else engine, address=address, devices=devices
    ) as pool:
        grid = VirtualGrid(
            experiment.fleet,
            introductions,
            pool,
            sigma=experiment.config.jitter,
            together=1 if dry else experiment.config.together,
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
def _pool(
    experiment: Experiment,
    introductions: Sequence[Introduction],
    workers: int | None,
    *,
    engine: Engine | Literal["dry"],
    address: str | None,
    devices: str | None,
) -> Iterator[Pool]:
    """Start what trains. Local workers map the experiment's data, laid out in a temporary folder."""
    if engine == "dry":
        yield DryPool(introductions)
        return
    if engine == "ray":
        cores = default_workers()
        with ray_pool(experiment, workers=workers, address=address, devices=devices, own_cores=cores) as pool:
            yield pool
        return
    gpus = chosen(devices, seen_gpus())
    if engine == "inline" or workers == 0:
        yield InlinePool(*laid_out(experiment), device=gpus[0].name if gpus else "cpu")
        return
    with scratch_folder("data") as store:
        with filling(store):
            write_store(store, *laid_out(experiment))
        where = places(gpus, workers=workers, cores=default_workers(), task_bytes=_task_bytes(experiment))
        with WorkerPool(where, slot_floats=_slot_floats(experiment), store=store) as local:
            yield local


def _task_bytes(experiment: Experiment) -> int:
    """Return what training the whole model takes, as predicted: no task is larger."""
    shape, training = experiment.shape, experiment.config.training
    whole = footprint(shape, (shape.sizes,) * shape.blocks)
    return experiment.config.together * whole.training_bytes(training.batch_size, training.optimizer)


def _slot_floats(experiment: Experiment) -> int:
    """Return the longest vector that goes to a worker or comes back: a whole model, confusion counts, or moments."""
    shape = experiment.shape
    whole = parameter_count(layout_of(shape), (shape.sizes,) * shape.blocks)
    moments = moments_length(shape, shape.blocks) if experiment.fitted_exits else 0
    return max(experiment.config.together * whole, (len(shape.exits) + 1) * shape.classes**2, moments)
