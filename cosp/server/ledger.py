"""What a run has used and seen so far: bytes, joules, busy time, staleness, refusals, best and latest accuracy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from cosp.server.evaluation import Evaluation
from cosp.wire.door import REASONS

NO_FIGURES: Mapping[str, float] = {}


@dataclass
class Ledger:
    """Running totals, all of them JSON values, so that a checkpoint can hold them."""

    bytes_down: int = 0
    bytes_up: int = 0
    busy_s: dict[str, float] = field(default_factory=dict)
    """Client -> seconds that it computed or transferred, finished tasks only."""
    energy_j: float = 0.0
    """Energy of finished tasks; waiting is added by :meth:`energy_at`."""
    staleness: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    """By reason, one of ``cosp.wire.door.REASONS``."""
    lies: dict[str, int] = field(default_factory=dict)
    """Client -> lies in a row by now, of all that have told any since they last told the truth."""
    banned: dict[str, int] = field(default_factory=dict)
    """Client -> its node: who gets no task any more, in this run and when it goes on."""
    peak_memory_bytes: dict[str, int] = field(default_factory=dict)
    local_accuracy: dict[str, float] = field(default_factory=dict)
    """Client -> latest accuracy on its own held-back split, after local training."""
    final: dict[str, Any] | None = None
    best: dict[str, Any] | None = None
    """The evaluation whose chosen exit has the best validation accuracy, the first at a tie."""

    def count_task(self, row: dict[str, Any]) -> None:
        """Add a finished task's arrival row."""
        client = str(row["client"])
        self.bytes_down += row["bytes_down"]
        self.bytes_up += row["bytes_up"]
        self.energy_j += row["energy_j"]
        self.busy_s[client] = self.busy_s.get(client, 0.0) + row["arrived_s"] - row["sent_s"]
        board, peak_bytes = row["board"], row["peak_memory_bytes"]
        self.peak_memory_bytes[board] = max(self.peak_memory_bytes.get(board, 0), peak_bytes)
        if not row["accepted"]:
            self.count_refused(row["reason"])
        elif row["task"] == "train":
            _add(self.staleness, str(row["staleness"]))
            if row["local_accuracy_trained"] is not None:
                self.local_accuracy[client] = row["local_accuracy_trained"]

    def count_failure(self, client: int, reason: str, busy_s: float, figures: Mapping[str, float] = NO_FIGURES) -> None:
        """Add a task that ended without a result; ``figures`` may say what it cost."""
        self.bytes_down += int(figures.get("bytes_down", 0))
        self.bytes_up += int(figures.get("bytes_up", 0))
        self.energy_j += figures.get("energy_j", 0.0)
        self.busy_s[str(client)] = self.busy_s.get(str(client), 0.0) + busy_s
        self.count_refused(reason)

    def count_refused(self, reason: str) -> None:
        """Add one under ``reason``; KeyError if that is none of the known ones, whose number is bounded."""
        if reason not in REASONS:
            raise KeyError(reason)
        _add(self.refused, reason)

    def note_evaluation(self, evaluation: Evaluation) -> None:
        """Keep it as the latest, and as the best if validation data prefer it: test data choose nothing."""
        self.final = {"global": evaluation.as_row(), "local": self.local()}
        if self.best is None or max(evaluation.validation_accuracy) > max(self.best["global"]["validation_accuracy"]):
            self.best = self.final

    def local(self) -> dict[str, float] | None:
        """Return mean and worst decile over clients of their latest local accuracy."""
        if not self.local_accuracy:
            return None
        values = np.array([self.local_accuracy[client] for client in sorted(self.local_accuracy, key=int)])
        return {"mean": float(values.mean()), "worst_decile": float(np.quantile(values, 0.1))}

    def utilisation_at(self, now_s: float, clients: int, running_s: float) -> float:
        """Return busy / (clients * time); ``running_s`` is what unfinished tasks have run so far, summed."""
        return (sum(self.busy_s.values()) + running_s) / (clients * now_s) if now_s > 0 else 0.0

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def _add(counts: dict[str, int], key: str) -> None:
    counts[key] = Counter(counts)[key] + 1
