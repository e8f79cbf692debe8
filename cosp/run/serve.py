"""The server's side of a run over any Flower Grid: greet clients, run the loop, write rows, checkpoints and metrics.

The simulator and Flower's ServerApp differ in the grid that they bring and in where they evaluate.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

from flwr.serverapp import Grid

from cosp.experiment import Experiment
from cosp.merge.clipping import Clip
from cosp.methods import Method
from cosp.run import checkpoint as checkpoints
from cosp.run.checkpoint import Checkpoint
from cosp.run.directory import RunDirectory, versions
from cosp.run.evaluation import Start, counter
from cosp.run.final import write_model
from cosp.run.heads import head_fit
from cosp.run.log import logged, note
from cosp.run.measured import Measured
from cosp.run.now import Now
from cosp.run.opening import opening_rows
from cosp.run.party import Party, able, gather
from cosp.run.virtual import VirtualTime
from cosp.server.coordinator import Coordinator
from cosp.server.evaluation import CountPredictions
from cosp.server.loop import Loop
from cosp.server.metrics import metrics

Row = dict[str, Any]


def serve(
    grid: Grid,
    experiment: Experiment,
    directory: RunDirectory,
    *,
    evaluate_with: Start | None,
    on_row: Callable[[Row], None] = lambda row: None,
    saved: Checkpoint | None = None,
    wall_started: float | None = None,
    dry: bool = False,
) -> Row:
    """Run to the end and return the metrics, which are also written.

    ``evaluate_with`` None evaluates nothing. A ``dry`` run has a model without parameters. ``saved`` is where to go on
    from, on a grid in virtual time. Wall time counts from ``wall_started``, a ``time.monotonic()``, or from now.
    """
    started = time.monotonic() if wall_started is None else wall_started
    directory.hold()
    try:
        if experiment.dataset.tokenizer is not None:
            directory.keep_tokenizer(experiment.dataset.tokenizer.text)
        with ExitStack() as stack:
            with directory.writing():
                log = stack.enter_context(logged(directory.folder, experiment.config.label))
            now = stack.enter_context(Now(directory.folder))

            def record(row: Row) -> None:
                directory.write_row(row)
                with directory.writing():
                    note(log, row)
                on_row(row)

            loop = _loop(
                grid, experiment, directory, evaluate_with=evaluate_with, record=record, now=now, saved=saved, dry=dry
            )
            loop.run()
            result = metrics(loop, wall_time_s=time.monotonic() - started)
            directory.write_metrics(result)
            judged = loop.judged()
            if judged is not None:
                with directory.writing():
                    write_model(directory.model, experiment, loop.coordinator, judged, versions())
    finally:
        directory.release()
    return result


def _loop(
    grid: Grid,
    experiment: Experiment,
    directory: RunDirectory,
    *,
    evaluate_with: Start | None,
    record: Callable[[Row], None],
    now: Now,
    saved: Checkpoint | None,
    dry: bool,
) -> Loop:
    """Return the server loop, ready to start or to go on from ``saved``."""
    config, shape = experiment.config, experiment.shape
    kept_out: list[Row] = []
    banned = saved.banned.values() if saved else ()
    party = gather(grid, experiment, banned=banned, on_refused=kept_out.append, on_wait=now.wait)
    clients, virtual = party.clients, isinstance(grid, VirtualTime)
    method = experiment.method(clients if virtual else able(clients, experiment))
    coordinator = _coordinator(experiment, method, party, virtual=virtual, dry=dry)

    def refused(row: Row) -> None:
        loop.ledger.count_refused(row["reason"])
        record({**row, "version": coordinator.version, "virtual_s": loop.now_s()})

    measured = Measured(experiment.boards, plans_follow=config.assignment.target_round_s is not None)

    def after_round(loop: Loop) -> None:
        for client, text in measured.device_files(config.name):
            directory.write_profile(client, text)
        if coordinator.version % config.server.checkpoint_every == 0:
            with directory.writing():
                checkpoints.save(directory.checkpoints, loop, config, rows_bytes=directory.rows_bytes())

    count = None
    if evaluate_with is not None:
        sizes = {name: len(split.y) for name, split in experiment.splits.items()}
        count = served_by(method, counter(evaluate_with, shape, method.model.evaluated, sizes))
    opening = partial(
        opening_rows,
        config,
        shape,
        experiment.dataset.classes,
        method,
        clients,
        boards=len(experiment.boards),
        claimed=party.claimed,
        planned=party.planned,
        dry=dry,
    )
    if saved:  # real boards may be others by now
        saved.check_config(config, free=checkpoints.FREE if virtual else checkpoints.FREE_ON_BOARDS)
        directory.check_begun(opening() if virtual else islice(opening(), 1), saved.rows_bytes)
    loop = Loop(
        grid,
        coordinator,
        party.nodes_of(method),
        rules=replace(
            experiment.rules,
            quorum=method.merging.quorum or experiment.rules.quorum,
            fewest=method.merging.fewest,
        ),
        count=count,
        backdoor=experiment.backdoor,
        on_row=record,
        on_round=after_round,
        on_step=now.look,
        observe=lambda task, row: measured.observe(coordinator.records[task.client].introduction, task, row),
        greeter=party.greeter,
        admission=party.admission,
        ledger=checkpoints.restore(saved, coordinator) if saved else None,
        began_s=saved.now_s if saved else 0.0,
    )
    directory.cut_rows(saved.rows_bytes if saved else 0)
    if saved:
        _go_on(loop, saved)
    else:
        for row in opening():
            record(row)
    if party.greeter is not None:
        party.greeter.on_refused = refused
    for row in kept_out:
        refused(row)
    return loop


def _coordinator(experiment: Experiment, method: Method, party: Party, *, virtual: bool, dry: bool) -> Coordinator:
    """Return the coordinator at version 0. A simulated fleet is mended before its run; a real board may sit out."""
    config = experiment.config
    coordinator = Coordinator(
        shape=experiment.shape,
        method=method,
        training=config.trains,
        model=method.model.initial({} if dry else experiment.initial_model()),
        clients=party.clients if virtual else (),
        seed=config.seed,
        max_staleness=config.server.max_staleness,
        limit_bytes=experiment.limit_bytes,
        heads=head_fit(experiment, method),
        clip=clip_of(method, simulated=virtual),
    )
    for client in () if virtual else party.clients:
        coordinator.add(client)
    for number, claimed in party.claimed.items():
        coordinator.records.note_claim(number, claimed)
    return coordinator


def clip_of(method: Method, *, simulated: bool) -> Clip | None:
    """Return how large an update may be: as ``method`` says, else bounded on boards that others hold."""
    asked = method.merging.clip
    if isinstance(asked, Clip):
        return asked
    return None if asked is False or simulated else Clip()


def served_by(method: Method, count: CountPredictions) -> CountPredictions:
    """Return ``count`` of the model that ``method`` makes of the server's tensors."""
    return lambda model, split: count(method.model.served(model), split)


def _go_on(loop: Loop, saved: Checkpoint) -> None:
    """Move a virtual grid to the checkpoint's time and put its tasks back in flight; on any other they are lost."""
    grid = loop.grid
    with saved.in_use():
        if isinstance(grid, VirtualTime):
            grid.restore(saved.now_s, saved.fleet)
            loop.resend(saved.in_flight, grid.resend)
        else:
            loop.lose(saved.in_flight, "server-restarted")
