"""Outcomes made by hand."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from cosp.tables.outcome import Outcome, Point

BLANK: dict[str, Any] = {
    "str": "x", "int": 1, "float": 0.5, "float | None": 0.5, "tuple[int, ...]": (1, 2), "tuple[float, ...]": (0.4, 0.5),
}  # fmt: skip


@pytest.fixture
def outcome():
    """Return a function that makes an outcome; what is not given is filled in."""

    def make(**given: Any) -> Outcome:
        return Outcome(**{field.name: BLANK[str(field.type)] for field in fields(Outcome)} | {"chosen_exit": 1} | given)

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
