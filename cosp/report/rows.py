"""What a run directory says, as frozen values: one class for each kind of row in ``rows.jsonl``.

Keys that a class does not name are ignored, so an older report still reads the rows of a newer server.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from cosp.report.told import NOTHING_TOLD, Told

Count = Annotated[int, Field(ge=0, le=10**18)]
Amount = Annotated[float, Field(ge=0, le=1e30)]  # NaN is neither
Staleness = Annotated[int, Field(ge=0, le=100_000)]  # each is a bar


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """The global model on the test set; lists run over exits from shallow to deep."""

    accuracy: tuple[Amount, ...]
    loss: tuple[float | None, ...] = ()
    macro_f1: tuple[Amount, ...] = ()
    mean_accuracy: Amount  # of the mean of the exits' softmax
    chosen_exit: Count  # index into the exits, by validation data
    chosen_accuracy: Amount
    validation_accuracy: tuple[Amount, ...] = ()
    backdoor: Amount | None = None  # share of triggered samples that are taken for a backdoor's class

    @property
    def deepest_accuracy(self) -> float:
        return self.accuracy[-1]

    @property
    def valid(self) -> float | None:
        """Validation accuracy of the chosen exit; None where an older cosp did not write it."""
        return self.validation_accuracy[self.chosen_exit] if self.validation_accuracy else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """The row of kind ``run``: what was asked for."""

    name: str
    method: str
    seed: int
    clients: Count
    blocks: Count
    exits: tuple[Count, ...]  # blocks after which an exit head stands
    classes: tuple[str, ...]
    parameters: Count
    quorum: Amount
    versions: Count | None
    until_s: Amount | None = None
    training_bytes: Count | None = None  # of plain training of the whole model


@dataclass(frozen=True, kw_only=True, slots=True)
class Client:
    """One board with its data."""

    client: Count
    board: str
    link: str
    keep: Amount | None  # share of the global parameters; None where the plan is made from memory
    samples: Count
    test_samples: Count
    class_counts: tuple[Count, ...]
    memory_bytes: Annotated[Count, Field(ge=1)]

    @property
    def title(self) -> str:
        return f"{self.client} · {self.board}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Arrival:
    """One task that came back; its spans follow each other: sent, download, compute, upload, arrived."""

    client: Count
    task: Literal["train", "score", "moments"]
    base_version: Count
    version: Count  # of the server when the task arrived
    staleness: Staleness
    accepted: bool
    reason: str | None
    samples: Count
    loss: float | None
    depth: Count
    parameters: Count  # of the submodel
    sent_s: Amount
    download_s: Amount
    compute_s: Amount
    upload_s: Amount
    arrived_s: Amount
    bytes_down: Count
    bytes_up: Count
    energy_j: Amount
    peak_memory_bytes: Count
    local_accuracy_received: Amount | None
    local_accuracy_trained: Amount | None
    epsilon: Amount | None = None  # what the client's updates by then can have told; None where nothing bounds it
    wall_step_s: Amount | None = None  # what a real machine measured, as far as it could
    wall_peak_rss_bytes: Count | None = None
    wall_peak_cuda_bytes: Count | None = None
    wall_cpu_s: Amount | None = None
    wall_cpu_share: Amount | None = None
    wall_temperature_c: Annotated[float, Field(ge=-100, le=300)] | None = None
    wall_throttled_share: Amount | None = None
    wall_frequency_hz: Amount | None = None
    wall_received_bytes: Count | None = None
    wall_sent_bytes: Count | None = None

    @property
    def measured(self) -> bool:
        """Say whether a real machine did it, and not a simulated one."""
        return self.wall_step_s is not None or self.wall_peak_rss_bytes is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class Round:
    """One closed round; version 0 is the model before training. Bytes, energy and utilisation are cumulative."""

    version: Count
    virtual_s: Amount
    closed_by: str
    arrivals: Count
    coverage: tuple[Amount, ...]  # (blocks,)
    drift: float | None = None
    evaluation: Scores | None
    bytes_down: Count
    bytes_up: Count
    energy_j: Amount
    utilisation: Amount
    wall_s: Amount | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Local:
    """Accuracy on the clients' own held-back data."""

    mean: Amount | None = None
    worst_decile: Amount | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    local: Local | None = None  # None: no client had trained yet
    scores: Scores | None = None  # "global" in metrics.json, which is a keyword here


@dataclass(frozen=True, kw_only=True, slots=True)
class UnderWay:
    """A task that had not come back when its run ended."""

    client: Count
    task: Literal["train", "score", "moments"]
    sent_s: Amount


@dataclass(frozen=True, kw_only=True, slots=True)
class Metrics:
    """What ``metrics.json`` adds to the rows: written once, when a run ends."""

    final: Result
    best: Result
    wall_time_s: Amount
    under_way: tuple[UnderWay, ...] | None = None  # None: an older cosp did not write it


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """Everything that one run directory says, in the order in which it was written."""

    header: Header
    clients: tuple[Client, ...]
    arrivals: tuple[Arrival, ...]
    rounds: tuple[Round, ...]
    metrics: Metrics | None  # None: the run was stopped before its end
    config: str | None  # the text of config.yaml
    told: Told = NOTHING_TOLD  # what it says in it
    notices: tuple[str, ...] = ()  # what is missing here, in words for the reader
    corrections: Mapping[int, str] = field(default_factory=dict)  # by client, how its profile was mended by its steps

    @property
    def measured(self) -> bool:
        """Say whether real boards did it: then its times are those of the wall."""
        return any(row.measured for row in self.arrivals)

    @property
    def clock(self) -> str:
        return "time" if self.measured else "virtual time"

    @property
    def virtual_s(self) -> float:
        """Span of the run's time: until the last round closed (or, before any did, the last task arrived)."""
        closed = max((row.virtual_s for row in self.rounds), default=0.0)
        return closed or max((row.arrived_s for row in self.arrivals), default=0.0)

    @property
    def under_way(self) -> tuple[UnderWay, ...] | None:
        """Tasks that had not come back at the end; None where that is not known."""
        return self.metrics.under_way if self.metrics else None

    @property
    def evaluated(self) -> tuple[tuple[Round, Scores], ...]:
        return tuple((row, row.evaluation) for row in self.rounds if row.evaluation is not None)
