"""Outcomes made by hand, and a tiny table."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from cosp.tables.outcome import Outcome, Point
from cosp.tables.plan import plan_table

BLANK: dict[str, Any] = {
    "str": "x", "int": 1, "float": 0.5, "float | None": 0.5, "tuple[int, ...]": (1, 2), "tuple[float, ...]": (0.4, 0.5),
}  # fmt: skip

CONFIG = """
name: tiny
data: {name: digits}
model: {patch: 4}
method: {name: fedavg}
server: {until_s: 1.0}
variants:
  prox: {method: {name: fedprox}}
  pm: {method: {name: fedpm}}
table:
  seeds: [3, 4]
  target_accuracy: 0.5
  search: {training.learning_rate: [0.001, 0.002, 0.004]}
  search_of: {pm: {method.score_learning_rate: [0.1, 0.3]}}
  grid:
    data: {easy: {data.train: 100}, hard: {data.train: 50, table.target_accuracy: 0.4}}
    skew: {mild: {data.partition.alpha: 1.5}, harsh: {data.partition.alpha: 0.1}}
"""


@pytest.fixture
def plan(tmp_path: Path):
    """Return a function that plans a tiny table; ``changes`` replace text of its file."""

    def make(*changes: tuple[str, str], **asked):
        text = CONFIG
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "tiny.yaml").write_text(text, encoding="utf-8")
        return plan_table(tmp_path / "tiny.yaml", **asked)

    return make


@pytest.fixture
def outcome():
    """Return a function that makes an outcome; what is not given is filled in."""

    def make(**given: Any) -> Outcome:
        return Outcome(
            **{field.name: BLANK[str(field.type)] for field in fields(Outcome)}
            | {"chosen_exit": 1, "untrained": (), "backdoor": None}
            | given
        )

    return make


@pytest.fixture
def curve():
    """Return a function that makes the evaluations of a cell: one a second with these accuracies."""

    def make(*accuracies: float) -> list[Point]:
        return [
            Point(cell="x", virtual_s=float(i), version=2 * i, accuracy=(a,), validation=(a,), chosen_exit=0, chosen=a)
            for i, a in enumerate(accuracies)
        ]

    return make
