"""Run a stream on a simulated fleet: what it is made of, its rows, its metrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch

from cosp.adaptation.acknowledged import Acknowledged
from cosp.adaptation.download import Held, form_of
from cosp.adaptation.teach import Batch
from cosp.errors import UserError
from cosp.experiment import single_thread
from cosp.fleet.fleet import Fleet
from cosp.held import filling, scratch_folder
from cosp.run.directory import RunDirectory
from cosp.run.pool import Pool
from cosp.seeds import numpy_stream
from cosp.simulation.inline import InlinePool
from cosp.simulation.pool import WorkerPool
from cosp.simulation.simulate import default_workers
from cosp.stream.answering import Asks
from cosp.stream.deployed import Deployed
from cosp.stream.fitting import fitting_fleet
from cosp.stream.learner import SchoolLearner
from cosp.stream.loop import Loop, Rules
from cosp.stream.rows import client_row, stream_row
from cosp.stream.samples import Stream, lay_out
from cosp.stream.seat import Seat
from cosp.stream.server import AdaptingServer, Learner, Published, Trials
from cosp.stream.settings import AdaptConfig
from cosp.stream.tally import Tally
from cosp.stream.uploads import Uploads
from cosp.stream.upward import Report
from cosp.submodel.flat import spans_of
from cosp.submodel.layout import parameter_count
from cosp.submodel.plan import SubmodelPlan
from cosp.submodel.slicing import State
from cosp.task.task import EVALUATION_BATCH
from cosp.trainer.samples import Samples
from cosp.trainer.store import write_store

Row = dict[str, Any]
CLEAN = "clean"
"""The split of the run's test data as they are."""


def new_directory(folder: Path, config: AdaptConfig) -> RunDirectory:
    """Make the directory of a stream; UserError if it holds a run or a stream already, which cannot be gone on with."""
    if (folder / "rows.jsonl").exists():
        raise UserError(f"{folder}: holds a run already, and a stream begins anew each time; give another --out")
    return RunDirectory.create(folder, config)


def simulate(
    config: AdaptConfig,
    deployed: Deployed,
    directory: RunDirectory,
    *,
    workers: int | None,
    data_dir: Path | None,
    on_row: Callable[[Row], None] = lambda row: None,
) -> Row:
    """Run to the end and return the metrics, which are also written; rows depend on config and seed alone.

    ``workers`` None is one a core, 0 answers in this process.
    """
    started = time.monotonic()
    single_thread()
    fleet = fitting_fleet(config, deployed)
    clients = sorted(deployed.plans)
    stream = lay_out(config, deployed, clients, data_dir=data_dir)
    seats, known = _seats(config, deployed, fleet, stream)
    tally = Tally()

    def record(row: Row) -> None:
        directory.write_row(row)
        tally.add(row)
        on_row(row)

    try:
        record(stream_row(config, deployed))
        for seat in seats.values():
            record(client_row(seat, deployed, config))
        timed = _Timed(server_of(config, deployed, seats))
        with _pool(deployed, stream, workers) as pool:
            asks = Asks(pool=pool, shape=deployed.facts.shape, seed=config.seed, batch=config.stream.batch)
            count = len(deployed.experiment.dataset.test)
            before = _clean(asks, seats, count)
            rules = Rules(
                seed=config.seed,
                until_s=config.stream.until_s,
                window_s=config.stream.window_s,
                sigma=config.jitter,
                oracle=config.adapt.rule == "labels",
            )
            uploads = Uploads(config.upload, deployed.facts.reading, deployed.facts.shape, seed=config.seed)
            Loop(
                seats, fleet, stream, rules=rules, asks=asks, uploads=uploads, server=timed, known=known, on_row=record
            ).run()
            after = _clean(asks, seats, count)
        metrics = {
            **tally.metrics(),
            "clean_accuracy": {"before": fmean(before.values()), "after": fmean(after.values())},
            "wall_time_s": time.monotonic() - started,
            "wall_server_s": timed.spent_s,
        }
        for board in metrics["boards"]:
            board["clean_accuracy"] = {"before": before[board["client"]], "after": after[board["client"]]}
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
    by_plan: dict[SubmodelPlan, Acknowledged] = {}
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
        if plan not in by_plan:
            form = form_of(deployed.layout, spans_of(deployed.layout, plan.counts), config.download)
            by_plan[plan] = Acknowledged(config.download, form)
        by_plan[plan].held[client] = Held(0, weights.numpy())
    return seats, {client: by_plan[seat.plan] for client, seat in seats.items()}


def server_of(config: AdaptConfig, deployed: Deployed, clients: Mapping[int, Seat]) -> AdaptingServer:
    """Return the server's side, which learns as ``config`` says."""
    validation = deployed.experiment.splits["validation"]
    clean = Batch(torch.from_numpy(np.array(validation.x)), torch.from_numpy(np.array(validation.y)))
    groups = _groups(config, sorted(clients))

    def learner(number: int, model: State) -> Learner:
        plans = [clients[client].plan for client in groups[number]]
        return SchoolLearner(
            config.adapt, deployed.facts.shape, model, plans, clean=clean, seed=config.seed, group=number
        )

    return AdaptingServer(
        deployed.state,
        deployed.layout,
        classes=deployed.facts.shape.classes,
        groups=groups,
        learner=learner,
        trials=_trials(config, sorted(clients)),
    )


def _groups(config: AdaptConfig, clients: Sequence[int]) -> list[list[int]]:
    if config.sets == "all":
        return [list(clients)]
    return [[client] for client in clients] if config.sets == "board" else [list(named) for named in config.sets]


def _trials(config: AdaptConfig, clients: Sequence[int]) -> Trials | None:
    trial = config.trial
    if trial is None:
        return None
    canaries = trial.canaries
    if isinstance(canaries, int):
        drawn = numpy_stream(config.seed, "canaries").permutation(len(clients))[:canaries]
        canaries = tuple(clients[i] for i in drawn)
    return Trials(windows=trial.windows, margin=trial.margin, canaries=frozenset(canaries))


def _clean(asks: Asks, seats: Mapping[int, Seat], count: int) -> dict[int, float]:
    """Return how much of the run's test data, as they are, each board gets right with what it has."""
    waiting = {client: asks.judge(seat, CLEAN, count) for client, seat in seats.items()}
    return {client: wait() for client, wait in waiting.items()}


class _Timed:
    """The server's side, with a clock of how long this machine is at it."""

    def __init__(self, server: AdaptingServer) -> None:
        self._server = server
        self.classes = server.classes
        self.spent_s = 0.0

    def target(self, client: int) -> Published:
        return self._server.target(client)

    def take(self, client: int, report: Report, batches: Sequence[Batch]) -> list[Row]:
        started = time.monotonic()
        try:
            return self._server.take(client, report, batches)
        finally:
            self.spent_s += time.monotonic() - started


@contextmanager
def _pool(deployed: Deployed, stream: Stream, workers: int | None) -> Iterator[Pool]:
    """Start what answers, on CPUs: a board's samples are few at a time."""
    shape, test = deployed.facts.shape, deployed.experiment.splits["test"]
    splits = {"train": stream.samples, CLEAN: Samples(np.asarray(test.x), test.y)}
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
