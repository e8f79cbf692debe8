"""Run a stream on a simulated fleet: what it is made of, its rows, its metrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cosp.adaptation.acknowledged import Acknowledged
from cosp.adaptation.download import Held
from cosp.experiment import single_thread
from cosp.fleet.fleet import Fleet
from cosp.held import filling, scratch_folder
from cosp.run.directory import RunDirectory
from cosp.run.evaluation import on_pool
from cosp.run.pool import Pool
from cosp.simulation.inline import InlinePool
from cosp.simulation.pool import WorkerPool
from cosp.simulation.simulate import default_workers
from cosp.stream.adapting import CLEAN, Timed, clean_splits, known_of, rules_of, server_of, with_clean_accuracy
from cosp.stream.answering import Asks
from cosp.stream.checkpoint import Checkpoint
from cosp.stream.deployed import Deployed
from cosp.stream.fitting import SPLIT, fitting_fleet
from cosp.stream.loop import Loop
from cosp.stream.rows import client_row, stream_row
from cosp.stream.samples import Stream, lay_out
from cosp.stream.seat import Seat
from cosp.stream.server import Published
from cosp.stream.settings import AdaptConfig
from cosp.stream.standing import Standing
from cosp.stream.told import Told
from cosp.stream.uploads import Uploads, post_of
from cosp.stream.written import write_models
from cosp.submodel.layout import parameter_count
from cosp.task.task import EVALUATION_BATCH
from cosp.trainer.store import write_store

Row = dict[str, Any]


def simulate(
    config: AdaptConfig,
    deployed: Deployed,
    directory: RunDirectory,
    *,
    workers: int | None,
    data_dir: Path | None,
    on_row: Callable[[Row], None] = lambda row: None,
    saved: Checkpoint | None = None,
) -> Row:
    """Run to the end and return the metrics, which are also written; rows depend on config and seed alone.

    ``workers`` None is one a core, 0 answers in this process. ``saved`` is where to go on from.
    """
    started = time.monotonic()
    directory.hold()
    single_thread()
    try:
        if saved is not None:
            saved.check(config, deployed.state)
        fleet = fitting_fleet(config, deployed)
        stream = lay_out(config, deployed, sorted(deployed.plans), data_dir=data_dir)
        seats, known = _seats(config, deployed, fleet, stream)
        told = Told(directory, on_row)
        told.begin(
            [stream_row(config, deployed), *(client_row(seat, deployed, config) for seat in seats.values())], saved
        )
        server = server_of(config, deployed)
        timed = Timed(server)
        with _pool(deployed, stream, workers) as pool:
            asks = Asks(pool=pool, shape=deployed.facts.shape, seed=config.seed, batch=config.stream.batch)
            count = len(deployed.experiment.dataset.test)
            before = _clean(asks, seats, count)
            uploads = Uploads(post_of(config.upload, deployed.facts.reading, deployed.facts.shape), seed=config.seed)
            standing = Standing(directory, config, deployed.state, server=server, known=known, uploads=uploads)
            loop = Loop(
                seats, fleet, stream, rules=rules_of(config), asks=asks, uploads=uploads, server=timed, known=known,
                on_row=told.record, on_window=standing.save,
            )  # fmt: skip
            if saved is not None:
                standing.restore(saved, loop)
            loop.run()
            after = _clean(asks, seats, count)
            models = write_models(directory, config, deployed, fleet, server.in_use(), evaluate_with=on_pool(pool))
        metrics = {
            **told.tally.metrics(),
            "wall_time_s": time.monotonic() - started,
            "wall_server_s": timed.spent_s,
            "models": models,
        }
        metrics = with_clean_accuracy(metrics, before, after)
        directory.write_metrics(metrics)
    finally:
        directory.release()
    return metrics


def _seats(
    config: AdaptConfig, deployed: Deployed, fleet: Fleet, stream: Stream
) -> tuple[dict[int, Seat], dict[int, Acknowledged]]:
    """Return the boards, each with its submodel of the run's model, and what the server knows them to have."""
    first = Published(version=0, group=0, model=deployed.state, layout=deployed.layout)
    seats: dict[int, Seat] = {}
    known = known_of(config, deployed)
    for client, plan in sorted(deployed.plans.items()):
        weights = first.weights(plan)
        seats[client] = Seat(
            board=fleet.boards[client],
            plan=plan,
            exit=deployed.exit_of(plan),
            coming=stream.comes[client],
            first=stream.firsts[client],
            weights=weights,
        )
        known[client].held[client] = Held(0, weights.numpy())
    return seats, known


def _clean(asks: Asks, seats: Mapping[int, Seat], count: int) -> dict[int, float]:
    """Return how much of the run's test data, as they are, each board gets right with what it has."""
    waiting = {client: asks.judge(seat, CLEAN, count) for client, seat in seats.items()}
    return {client: wait() for client, wait in waiting.items()}


@contextmanager
def _pool(deployed: Deployed, stream: Stream, workers: int | None) -> Iterator[Pool]:
    """Start what answers, on CPUs: a board's samples are few at a time."""
    shape = deployed.facts.shape
    splits = {SPLIT: stream.samples, **clean_splits(deployed)}
    if workers == 0:
        yield InlinePool(splits, [], device="cpu")
        return
    with scratch_folder("stream") as store:
        with filling(store):
            write_store(store, splits, [])
        whole = parameter_count(deployed.layout, (shape.sizes,) * shape.blocks)
        exits = len(shape.exits)
        slot_floats = max(whole, EVALUATION_BATCH * exits * shape.classes, (exits + 1) * shape.classes**2)
        with WorkerPool(("cpu",) * (workers or default_workers()), slot_floats=slot_floats, store=store) as pool:
            yield pool
