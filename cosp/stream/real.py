"""Run a stream on real boards: what it is made of, its rows, its metrics."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from flwr.serverapp import Grid
from torch import Tensor

from cosp.errors import ConfigError
from cosp.experiment import single_thread
from cosp.fleet.fleet import Fleet
from cosp.fleet.introduction import Introduction
from cosp.run.directory import RunDirectory
from cosp.run.evaluation import CHUNK, in_process
from cosp.run.recipe import recipe_of
from cosp.server.admission import Admission
from cosp.server.conduct import Conduct
from cosp.server.evaluation import accuracy_of
from cosp.server.greeting import Greeter
from cosp.server.ledger import Ledger
from cosp.stream.adapting import CLEAN, Timed, clean_splits, known_of, server_of, with_clean_accuracy
from cosp.stream.board_rows import board_row
from cosp.stream.boards import BoardLoop, Rules
from cosp.stream.deployed import Deployed
from cosp.stream.fitting import fitting_fleet
from cosp.stream.question import Place
from cosp.stream.rows import stream_row
from cosp.stream.server import Published
from cosp.stream.settings import AdaptConfig
from cosp.stream.told import Told
from cosp.stream.uploads import post_of
from cosp.stream.written import write_models
from cosp.task.task import Task
from cosp.trainer.trainer import Trainer

Row = dict[str, Any]

LEAST_TIMEOUT_S, TIMEOUT_WINDOWS = 120.0, 3
"""A board that says nothing for so long, or for so many windows, is given up."""
OF_SIMULATION = ("drift", "data", "order")
"""What of ``stream`` says what comes to simulated boards; real ones bring it."""


def check_for_boards(config: AdaptConfig) -> list[str]:
    """Return which keys of ``stream`` do nothing on real boards; ConfigError if the rest cannot be done there."""
    if config.adapt.rule == "labels":
        raise ConfigError(
            "adapt.rule: labels: an oracle's, of simulated boards; real ones send no label: give distil or entropy"
        )
    return [f"stream.{key}" for key in OF_SIMULATION if getattr(config.stream, key)]


def serve_boards(
    grid: Grid,
    config: AdaptConfig,
    deployed: Deployed,
    directory: RunDirectory,
    *,
    on_row: Callable[[Row], None] = lambda row: None,
) -> Row:
    """Run to the end and return the metrics, which are also written."""
    started = time.monotonic()
    check_for_boards(config)
    single_thread()
    fleet = fitting_fleet(config, deployed)
    told, places = Told(directory, on_row), _places(config, deployed, fleet)

    def joined(place: Place, introduction: Introduction) -> None:
        told.record(board_row(place, introduction, deployed, config))

    try:
        told.record({**stream_row(config, deployed), "real": True})
        server, known = server_of(config, deployed), known_of(config, deployed)
        timed = Timed(server)
        greeter = Greeter(
            grid,
            len(fleet.boards),
            recipe=recipe_of(deployed.experiment),
            on_refused=lambda row: told.record({**row, "kind": "kept_out"}),
        )
        loop = BoardLoop(
            grid,
            greeter,
            places,
            rules=_rules(config),
            post=post_of(config.upload, deployed.facts.reading, deployed.facts.shape),
            server=timed,
            known=known,
            conduct=Conduct(
                Ledger(), boards=len(places), ban_after=deployed.experiment.config.server.ban_after, min_clients=1
            ),
            admission=Admission(fleet.boards, simulated=False),
            on_row=told.record,
            on_joined=joined,
        )
        loop.run()
        judge = Trainer({}, clean_splits(deployed), device="cpu")
        models = write_models(directory, config, deployed, fleet, server.in_use(), evaluate_with=in_process(judge))
        metrics: Row = {
            **told.tally.metrics(),
            "wall_time_s": time.monotonic() - started,
            "wall_server_s": timed.spent_s,
            "models": models,
        }
        first = Published(version=0, group=0, model=deployed.state, layout=deployed.layout)
        begun = {client: first.weights(plan) for client, plan in sorted(deployed.plans.items())}
        held = {client: one.held[client].weights for client, one in known.items() if client in one.held}
        ended = {**begun, **{client: torch.from_numpy(weights) for client, weights in held.items()}}
        metrics = with_clean_accuracy(metrics, _clean(deployed, judge, begun), _clean(deployed, judge, ended))
        directory.write_metrics(metrics)
    finally:
        directory.release()
    return metrics


def _places(config: AdaptConfig, deployed: Deployed, fleet: Fleet) -> dict[int, Place]:
    found = {}
    for client, plan in sorted(deployed.plans.items()):
        per_s = config.stream.of(client).per_s
        assert per_s is not None
        found[client] = Place(
            board=fleet.boards[client],
            plan=plan,
            exit=deployed.exit_of(plan),
            per_window=round(per_s * config.stream.window_s),
        )
    return found


def _rules(config: AdaptConfig) -> Rules:
    return Rules(
        run=secrets.token_hex(8),
        seed=config.seed,
        until_s=config.stream.until_s,
        window_s=config.stream.window_s,
        batch=config.stream.batch,
        timeout_s=max(LEAST_TIMEOUT_S, TIMEOUT_WINDOWS * config.stream.window_s),
        download=config.download,
    )


def _clean(deployed: Deployed, judge: Trainer, has: Mapping[int, Tensor]) -> dict[int, float]:
    """Return how much of the run's test data, as they are, each board gets right with the weights that it ``has``."""
    count, shape = len(deployed.experiment.dataset.test), deployed.facts.shape
    found = {}
    for client, weights in has.items():
        plan = deployed.plans[client]
        confusion = np.zeros((shape.classes, shape.classes), np.int64)
        for first in range(0, count, CHUNK):
            last = min(first + CHUNK, count)
            task = Task("evaluate", client, 0, 0, 0, shape, plan, split=CLEAN, first=first, last=last)
            counts = judge.run(task, weights)[1].numpy().reshape(-1, shape.classes, shape.classes)
            confusion += counts[deployed.exit_of(plan)].astype(np.int64)
        found[client] = accuracy_of(confusion)
    return found
