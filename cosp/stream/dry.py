"""A stream's timeline alone (``cosp adapt --dry``): nothing is answered, nothing is learned, no sample is laid out.

Each window a board sends as many samples as its rule and budget let, of full size; a batch of them is a step, and sets
go the ways that they do, none is worse. A set takes as many bytes down as ``download`` lets. So times, bytes and joules
are those of a stream that uses up its budgets; accuracy and uncertainty are not reported, and no model is written.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from cosp.adaptation import upward
from cosp.adaptation.batches import Batch
from cosp.adaptation.download import HALF_BYTES, HEADER
from cosp.adaptation.kept import Keep, Take
from cosp.adaptation.upward import Report
from cosp.fleet.fleet import Fleet
from cosp.fleet.live import End
from cosp.run.directory import RunDirectory
from cosp.seeds import numpy_stream
from cosp.simulation.dry import DryPool
from cosp.stream.adapting import Timed, groups_of, rules_of, trials_of
from cosp.stream.answering import Asked, Asks
from cosp.stream.arrivals import Arrivals, drawn_shifts, poisson
from cosp.stream.deployed import Deployed
from cosp.stream.fitting import fitting_fleet
from cosp.stream.loop import Loop, Parcel
from cosp.stream.rows import asked_row, client_row, stream_row
from cosp.stream.samples import Stream
from cosp.stream.seat import Seat
from cosp.stream.server import AdaptingServer
from cosp.stream.settings import AdaptConfig
from cosp.stream.told import Told
from cosp.stream.uploads import Uploads, post_of
from cosp.submodel.slicing import State
from cosp.trainer.samples import Samples

Row = dict[str, Any]
UNSURE = 0.5
"""What every board says of itself, so that no set is ever worse."""


class DryLearner:
    """Counts samples: ``batch`` of them are a step, after which there is a new model, without parameters."""

    def __init__(self, batch: int | None) -> None:
        self._batch, self._waiting, self._new = batch, 0, False

    def take(self, client: int, report: Report, batches: Sequence[Batch]) -> list[Row]:
        if self._batch is None:
            return []
        self._waiting += sum(len(one.x) for one in batches)
        steps, self._waiting = divmod(self._waiting, self._batch)
        self._new |= steps > 0
        return [{"kind": "step", "samples": self._batch, "loss": None, "entropy": None} for _ in range(steps)]

    def model(self) -> State | None:
        fresh, self._new = self._new, False
        return {} if fresh else None

    def go_back(self, model: State) -> None:
        self._new = False

    def teach(self, clients: Sequence[int]) -> None:
        pass

    def state(self, keep: Keep) -> Row:
        return {}

    def restore(self, state: Row, take: Take) -> None:
        pass


class DryLoop(Loop):
    """A loop whose messages have a length alone."""

    def __init__(self, *args: Any, config: AdaptConfig, sample_bytes: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._config, self._sample_bytes = config, sample_bytes
        self._predicted = np.zeros(self._server.classes, np.int64)

    def _report(self, seat: Seat, asked: Asked) -> None:
        samples = sum(piece.last - piece.first for piece in asked.pieces)
        if not samples:
            self._turn(seat)
            return
        chosen = self._chosen(samples)
        row = asked_row(seat, asked, samples=samples, shift=self._shift(seat))
        row |= {"right": None, "uncertainty": None, "chosen": chosen}
        size_bytes = upward.size_bytes(self._server.classes, chosen * self._sample_bytes)
        parcel = Parcel(kind="report", message=b"", row=row)
        self._start(seat, asked.task(), parcel, bytes_down=0, bytes_up=size_bytes)

    def _chosen(self, samples: int) -> int:
        upload = self._config.upload
        most = [samples, 0 if upload.rule == "none" else samples]
        most += [] if upload.samples is None else [upload.samples]
        most += [] if upload.most_bytes is None else [upload.most_bytes // self._sample_bytes]
        return min(most)

    def _taken(self, seat: Seat, parcel: Parcel) -> list[Row]:
        row = parcel.row
        report = Report(version=row["version"], samples=row["samples"], uncertainty=UNSURE, predicted=self._predicted)
        return self._server.take(seat.client, report, [Batch(torch.empty(row["chosen"], 0))] if row["chosen"] else [])

    def _send(self, seat: Seat) -> None:
        target = self._server.target(seat.client)
        if target.version in (seat.version, seat.offered):
            return
        lost, seat.offered = seat.offered < 0, target.version
        task, download = self._asks.nothing(seat), self._config.download
        whole = lost or download.how == "whole"
        link_bytes = seat.board.at(self.now_s).link.downlink_bytes_per_s * self._rules.window_s
        size_bytes = HEADER.size + HALF_BYTES * task.parameters
        if not whole:
            size_bytes = download.budget_bytes(task.parameters, link_bytes=link_bytes)
        row = {
            "kind": "download",
            "client": seat.client,
            "version": target.version,
            "base": None if lost else seat.version,
            "way": "whole" if whole else download.how,
        }
        self._start(seat, task, Parcel(kind="set", message=b"", row=row), bytes_down=size_bytes, bytes_up=0)

    def _arrived(self, seat: Seat, parcel: Parcel, end: End) -> None:
        if end.lost is None:
            seat.take(self.now_s, parcel.row["version"], seat.answering[-1].weights)
        else:
            seat.offered = -1
        self._turn(seat)


def run_dry(
    config: AdaptConfig,
    deployed: Deployed,
    directory: RunDirectory,
    *,
    on_row: Callable[[Row], None] = lambda row: None,
) -> Row:
    """Run to the end and return the metrics, which are also written."""
    started = time.monotonic()
    directory.hold()
    try:
        fleet = fitting_fleet(config, deployed)
        told, clients = Told(directory, on_row), sorted(deployed.plans)
        seats = {client: _seat(client, config, deployed, fleet) for client in clients}
        post = post_of(config.upload, deployed.facts.reading, deployed.facts.shape)
        opening = [client_row(seat, deployed, config) for seat in seats.values()]
        told.begin([{**stream_row(config, deployed), "dry": True}, *opening], None)
        batch = None if config.adapt.rule == "none" else config.adapt.batch
        server = Timed(
            AdaptingServer(
                {}, {}, classes=deployed.facts.shape.classes, groups=groups_of(config, clients),
                learner=lambda number, clients, model: DryLearner(batch), trials=trials_of(config, clients),
            )
        )  # fmt: skip
        looped = time.monotonic()
        DryLoop(
            seats,
            fleet,
            Stream(samples=Samples(np.zeros((0, 1)), np.zeros(0, np.int64)), comes={}, firsts={}),
            rules=rules_of(config),
            asks=Asks(pool=DryPool(()), shape=deployed.facts.shape, seed=config.seed, batch=config.stream.batch),
            uploads=Uploads(post, seed=config.seed),
            server=server,
            known={},
            on_row=told.record,
            config=config,
            sample_bytes=post.sample_bytes,
        ).run()
        metrics = {
            **told.tally.metrics(),
            "dry": True,
            "steps": told.tally.counts["step"],
            "clean_accuracy": {"before": None, "after": None},
            "models": [],
            "wall_time_s": time.monotonic() - started,
            "wall_loop_s": time.monotonic() - looped,
            "wall_server_s": server.spent_s,
        }
        directory.write_metrics(metrics)
    finally:
        directory.release()
    return metrics


def _seat(client: int, config: AdaptConfig, deployed: Deployed, fleet: Fleet) -> Seat:
    plan = deployed.plans[client]
    return Seat(
        board=fleet.boards[client],
        plan=plan,
        exit=deployed.exit_of(plan),
        coming=_coming(config, client),
        first=0,
        weights=torch.empty(0),
    )


def _coming(config: AdaptConfig, client: int) -> Arrivals:
    """Return when samples come to a board, and how corrupted; not which."""
    stream, seed, until_s = config.stream.of(client), config.seed, config.stream.until_s
    assert stream.per_s is not None
    assert stream.drift is not None
    times_s = poisson(stream.per_s, until_s, numpy_stream(seed, "arrivals", client))
    shifts = drawn_shifts(stream.drift, until_s, numpy_stream(seed, "drift", client))
    return Arrivals(times_s=times_s, rows=np.zeros(len(times_s), np.int64), shifts=shifts)
