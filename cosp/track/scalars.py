"""Rows -> the values of each version, named as trackers group them (``accuracy/after_block_2``)."""

from __future__ import annotations

from collections import defaultdict
from statistics import fmean
from typing import Any

import numpy as np

Row = dict[str, Any]


class Scalars:
    """Reads a run's rows in order; :meth:`add` returns a round's values when it closes."""

    def __init__(self) -> None:
        self._exits: list[int] = []
        self._trained: list[Row] = []
        """Merged training updates since the last round."""
        self._refused = 0
        self._local: dict[int, tuple[int, float]] = {}
        """Client -> depth of what it trained last, and its accuracy on the client's own held-back data."""
        self._evaluated = -1

    def add(self, row: Row) -> dict[str, float]:
        """Return what a row of kind ``round`` closes, and nothing for others."""
        if row["kind"] == "run":
            self._exits = row["exits"]
        elif row["kind"] == "arrival":
            self._arrival(row)
        elif row["kind"] == "round":
            return self._round(row)
        return {}

    def _arrival(self, row: Row) -> None:
        if not row["accepted"]:
            self._refused += 1
        elif row["task"] == "train":
            self._trained.append(row)
            if row["local_accuracy_trained"] is not None:
                self._local[row["client"]] = row["depth"], row["local_accuracy_trained"]

    def _round(self, row: Row) -> dict[str, float]:
        scores = self._scores(row) if self._evaluated != row["version"] else {}
        if scores:
            self._evaluated = row["version"]
        if row["closed_by"] == "end":  # the same version once more, judged at last
            return scores
        found = scores | self._of_updates() | self._of_clients() | _of_fleet(row)
        self._trained, self._refused = [], 0
        return found

    def _scores(self, row: Row) -> dict[str, float]:
        scores = row["evaluation"]
        if not scores:
            return {}
        found: dict[str, float] = {}
        for name in ("accuracy", "loss", "macro_f1"):
            values = zip(self._exits, scores[name], strict=True)
            found |= {f"{name}/after_block_{block}": value for block, value in values if value is not None}
        return found | {
            "accuracy/mean_of_exits": scores["mean_accuracy"],
            "accuracy/chosen_exit": scores["chosen_accuracy"],
            "chosen_exit_block": self._exits[scores["chosen_exit"]],
        }

    def _of_updates(self) -> dict[str, float]:
        ages = [row["staleness"] for row in self._trained]
        losses = [row["loss"] for row in self._trained if row["loss"] is not None]
        found: dict[str, float] = {"updates/merged": len(ages), "updates/refused": self._refused}
        if ages:
            found |= {"staleness/mean": fmean(ages), "staleness/max": max(ages)}
        return found | ({"training/loss": fmean(losses)} if losses else {})

    def _of_clients(self) -> dict[str, float]:
        """The clients' latest accuracy on their own data: mean, worst decile, and by the depth of what they trained."""
        if not self._local:
            return {}
        by_depth = defaultdict(list)
        for depth, accuracy in self._local.values():
            by_depth[depth].append(accuracy)
        values = [accuracy for _, accuracy in self._local.values()]
        return {
            "local_accuracy/mean": fmean(values),
            "local_accuracy/worst_decile": float(np.quantile(values, 0.1)),
            **{f"local_accuracy/after_block_{depth}": fmean(found) for depth, found in sorted(by_depth.items())},
        }


def _of_fleet(row: Row) -> dict[str, float]:
    coverage = row["coverage"]
    found = {f"coverage/block_{block}": share for block, share in enumerate(coverage, 1)}
    found |= {
        "coverage/mean": fmean(coverage) if coverage else 0.0,
        "fleet/virtual_time_s": row["virtual_s"],
        "fleet/energy_j": row["energy_j"],
        "fleet/bytes_down": row["bytes_down"],
        "fleet/bytes_up": row["bytes_up"],
        "fleet/utilisation": row["utilisation"],
        "fleet/in_flight": row["in_flight"],
    }
    return found | ({"updates/drift": row["drift"]} if row["drift"] is not None else {})
