"""Starts and runs the tiny experiment."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_runs import TINY, rows_of

from cosp.config import load_config
from cosp.experiment import Experiment, load_experiment
from cosp.run.directory import RunDirectory
from cosp.simulation.simulate import simulate

Start = Callable[..., tuple[Experiment, RunDirectory]]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Return a function that makes a tiny experiment, with ``key=value`` overrides, and its run directory."""

    def make(*overrides: str, out: str = "run") -> tuple[Experiment, RunDirectory]:
        path = tmp_path / "tiny.yaml"
        path.write_text(yaml.safe_dump(TINY), encoding="utf-8")
        config = load_config(path, overrides)
        return load_experiment(config), RunDirectory.create(tmp_path / out, config)

    return make


@pytest.fixture
def run(start: Start) -> Callable[..., list[dict[str, Any]]]:
    """Return a function that runs a tiny experiment and returns its rows."""

    def go(*overrides: str, out: str = "run", workers: int = 1, dry: bool = False) -> list[dict[str, Any]]:
        experiment, directory = start(*overrides, out=out)
        simulate(experiment, directory, workers=workers, dry=dry)
        return rows_of(directory.folder)

    return go


@pytest.fixture
def scratch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of temporary files of what a test starts; its path is short, as sockets want it."""
    with tempfile.TemporaryDirectory(prefix="t-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        monkeypatch.setenv("TMPDIR", folder)
        yield Path(folder)
