"""What the server's side of a stream is made of, simulated or on real boards."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np
import torch

from cosp.adaptation.acknowledged import Acknowledged
from cosp.adaptation.batches import Batch
from cosp.adaptation.download import form_of
from cosp.adaptation.upward import Report
from cosp.seeds import numpy_stream
from cosp.stream.clusters import Clustering
from cosp.stream.deployed import Deployed
from cosp.stream.learner import SchoolLearner
from cosp.stream.loop import Rules
from cosp.stream.server import AdaptingServer, Learner, Published, Trials
from cosp.stream.settings import AdaptConfig
from cosp.submodel.flat import spans_of
from cosp.submodel.plan import SubmodelPlan
from cosp.submodel.slicing import State
from cosp.trainer.samples import Samples

Row = dict[str, Any]
CLEAN = "test"
"""The split of the run's test data as they are."""


def known_of(config: AdaptConfig, deployed: Deployed) -> dict[int, Acknowledged]:
    """Return, by client, what takes note of what it has: one for all that hold the same submodel."""
    by_plan: dict[SubmodelPlan, Acknowledged] = {}
    for plan in deployed.plans.values():
        if plan not in by_plan:
            form = form_of(deployed.layout, spans_of(deployed.layout, plan.counts), config.download)
            by_plan[plan] = Acknowledged(config.download, form)
    return {client: by_plan[plan] for client, plan in sorted(deployed.plans.items())}


def server_of(config: AdaptConfig, deployed: Deployed) -> AdaptingServer:
    """Return the server's side, which learns as ``config`` says."""
    validation = deployed.experiment.splits["validation"]
    clean = Batch(torch.from_numpy(np.array(validation.x)), torch.from_numpy(np.array(validation.y)))
    clients = sorted(deployed.plans)

    def learner(number: int, boards: Sequence[int], model: State) -> Learner:
        return SchoolLearner(
            config.adapt,
            deployed.facts.shape,
            model,
            deployed.plans,
            boards,
            clean=clean,
            seed=config.seed,
            group=number,
        )

    return AdaptingServer(
        deployed.state,
        deployed.layout,
        classes=deployed.facts.shape.classes,
        groups=groups_of(config, clients),
        clustering=Clustering(config.clusters, clients) if config.sets == "drift" else None,
        learner=learner,
        trials=trials_of(config, clients),
    )


def groups_of(config: AdaptConfig, clients: Sequence[int]) -> list[list[int]]:
    """Return which boards have a set together as the stream begins."""
    if config.sets in ("all", "drift"):  # all boards are alike as long as nobody knows better
        return [list(clients)]
    return [list(named) for named in config.sets] if isinstance(config.sets, tuple) else [[one] for one in clients]


def trials_of(config: AdaptConfig, clients: Sequence[int]) -> Trials | None:
    """Return how sets are tried, on canaries that are drawn where they are a number; None: they are not."""
    trial = config.trial
    if trial is None:
        return None
    canaries = trial.canaries
    if isinstance(canaries, int):
        drawn = numpy_stream(config.seed, "canaries").permutation(len(clients))[:canaries]
        canaries = tuple(clients[i] for i in drawn)
    return Trials(windows=trial.windows, margin=trial.margin, canaries=frozenset(canaries))


def rules_of(config: AdaptConfig) -> Rules:
    """Return what a simulated stream's loop keeps to."""
    return Rules(
        seed=config.seed,
        until_s=config.stream.until_s,
        window_s=config.stream.window_s,
        sigma=config.jitter,
        oracle=config.adapt.rule == "labels",
    )


def clean_splits(deployed: Deployed) -> dict[str, Samples]:
    """Return the run's test and validation data, as they are."""
    splits = deployed.experiment.splits
    return {name: Samples(np.asarray(splits[name].x), splits[name].y) for name in (CLEAN, "validation")}


def with_clean_accuracy(metrics: Row, before: Mapping[int, float], after: Mapping[int, float]) -> Row:
    """Return ``metrics`` with what boards got right of the clean test data, by client."""
    boards = [
        {**board, "clean_accuracy": {"before": before[board["client"]], "after": after[board["client"]]}}
        for board in metrics["boards"]
    ]
    return {
        **metrics,
        "boards": boards,
        "clean_accuracy": {"before": fmean(before.values()), "after": fmean(after.values())},
    }


class Timed:
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
