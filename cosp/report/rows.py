"""What a run directory says, as frozen values: one class for each kind of row in ``rows.jsonl``.

Keys that a class does not name are ignored, so an older report still reads the rows of a newer server.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """The global model on the test set; lists run over exits from shallow to deep."""

    accuracy: tuple[float, ...]
    loss: tuple[float | None, ...] = ()
    macro_f1: tuple[float, ...] = ()
    mean_accuracy: float  # of the mean of the exits' softmax
    chosen_exit: int  # index into the exits, by validation data
    chosen_accuracy: float
    validation_accuracy: tuple[float, ...] = ()

    @property
    def deepest_accuracy(self) -> float:
        return self.accuracy[-1]


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """The row of kind ``run``: what was asked for."""

    name: str
    method: str
    seed: int
    clients: int
    blocks: int
    exits: tuple[int, ...]  # blocks after which an exit head stands
    classes: tuple[str, ...]
    parameters: int
    quorum: float
    versions: int | None
    until_s: float | None = None
    training_bytes: int | None = None  # of plain training of the whole model


@dataclass(frozen=True, kw_only=True, slots=True)
class Client:
    """One board with its data."""

    client: int
    board: str
    link: str
    keep: float | None  # share of the global parameters; None where the plan is made from memory
    samples: int
    test_samples: int
    class_counts: tuple[int, ...]
    memory_bytes: int

    @property
    def title(self) -> str:
        return f"{self.client} · {self.board}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Arrival:
    """One task that came back; its spans follow each other: sent, download, compute, upload, arrived."""

    client: int
    task: Literal["train", "score"]
    base_version: int
    version: int  # of the server when the task arrived
    staleness: int
    accepted: bool
    reason: str | None
    samples: int
    loss: float | None
    depth: int
    parameters: int  # of the submodel
    sent_s: float
    download_s: float
    compute_s: float
    upload_s: float
    arrived_s: float
    bytes_down: int
    bytes_up: int
    energy_j: float
    peak_memory_bytes: int
    local_accuracy_received: float | None
    local_accuracy_trained: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Round:
    """One closed round; version 0 is the model before training. Bytes, energy and utilisation are cumulative."""

    version: int
    virtual_s: float
    closed_by: str
    arrivals: int
    coverage: tuple[float, ...]  # (blocks,)
    drift: float | None = None
    evaluation: Scores | None
    bytes_down: int
    bytes_up: int
    energy_j: float
    utilisation: float
    wall_s: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Local:
    """Accuracy on the clients' own held-back data."""

    mean: float | None = None
    worst_decile: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    local: Local | None = None  # None: no client had trained yet
    scores: Scores | None = None  # "global" in metrics.json, which is a keyword here


@dataclass(frozen=True, kw_only=True, slots=True)
class Metrics:
    """What ``metrics.json`` adds to the rows: written once, when a run ends."""

    final: Result
    best: Result
    wall_time_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """Everything that one run directory says, in the order in which it was written."""

    header: Header
    clients: tuple[Client, ...]
    arrivals: tuple[Arrival, ...]
    rounds: tuple[Round, ...]
    metrics: Metrics | None  # None: the run was stopped before its end
    config: str | None  # the text of config.yaml
    notices: tuple[str, ...] = ()  # what is missing here, in words for the reader

    @property
    def virtual_s(self) -> float:
        """Span of virtual time: until the last round closed (or, before any did, the last task arrived)."""
        closed = max((row.virtual_s for row in self.rounds), default=0.0)
        return closed or max((row.arrived_s for row in self.arrivals), default=0.0)

    @property
    def evaluated(self) -> tuple[tuple[Round, Scores], ...]:
        return tuple((row, row.evaluation) for row in self.rounds if row.evaluation is not None)
