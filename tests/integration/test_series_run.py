"""A series model learns real data through the whole of a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from sklearn.datasets import load_digits
from tiny_runs import TINY
from typer.testing import CliRunner

from cosp.cli.main import app

pytestmark = pytest.mark.integration

MODEL = "model={patch: 2, dim: 16, blocks: 2, heads: 2, hidden: 32, exits: [1, 2]}"


@pytest.fixture
def rows_of_digits(tmp_path: Path) -> Path:
    """Handwritten digits as a pen would scan them: 8 steps, a row of 8 values each."""
    digits = load_digits()
    np.savez(tmp_path / "scanned.npz", x=digits.images, y=digits.target)
    return tmp_path / "scanned.npz"


def data(path: Path) -> str:
    return f"data={{name: {path}, kind: series, train: 400, test: 200, partition: {{kind: iid}}}}"


def test_a_fleet_learns_to_tell_series_apart(run: Callable[..., list[dict[str, Any]]], rows_of_digits: Path):
    rows = run(data(rows_of_digits), MODEL, "training.epochs=5")
    accuracy = [row["evaluation"]["accuracy"][-1] for row in rows if row["kind"] == "round"]
    assert accuracy[0] < 0.2
    assert accuracy[-1] > 0.5


def test_series_are_planned_and_stored_from_the_command_line(rows_of_digits: Path, tmp_path: Path):
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY), encoding="utf-8")
    sets = [f"--set={pair}" for pair in (data(rows_of_digits), MODEL)]
    planned = CliRunner().invoke(app, ["plan", str(tmp_path / "tiny.yaml"), *sets])
    assert planned.exit_code == 0, planned.output
    own = ["--own", str(rows_of_digits), "--out", str(tmp_path / "store")]
    stored = CliRunner().invoke(app, ["store", str(tmp_path / "tiny.yaml"), *own, *sets])
    assert stored.exit_code == 0, stored.output
    assert np.load(tmp_path / "store" / "x_train.npy").shape == (1797, 8, 8)
