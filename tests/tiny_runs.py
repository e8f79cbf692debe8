"""A run small enough for a test: 200 digits, four unequal boards, a two-block model, three versions."""

from __future__ import annotations

import itertools
import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cosp.config import load_config
from cosp.experiment import Experiment, load_experiment
from cosp.run.directory import RunDirectory
from cosp.simulation import forks
from cosp.simulation.simulate import simulate

TINY: dict[str, Any] = {
    "name": "tiny",
    "data": {"name": "digits", "train": 200, "validation": 50, "test": 100, "partition": {"kind": "iid"}},
    "fleet": {
        "boards": [
            {"count": 2, "device": "jetson-nano", "link": "wifi-poor", "keep": 0.5},
            {"count": 1, "device": "jetson-orin-nano-8", "link": "wifi", "keep": 0.7},
            {"count": 1, "device": "jetson-agx-orin-64", "link": "ethernet", "keep": 1.0},
        ]
    },
    "model": {"patch": 4, "dim": 16, "blocks": 2, "heads": 2, "hidden": 16, "exits": [1, 2]},
    "method": {"name": "co-s2p", "depth_share": 0.5},  # so that width is pruned and units are scored
    "training": {"epochs": 1, "batch_size": 16},
    "server": {"versions": 6, "quorum": 0.5, "checkpoint_every": 2},
}

TOGETHER = (
    "together=3",
    "server.quorum=0.4",
    "server.versions=5",
    "server.checkpoint_every=1",
    "fleet={boards: [{count: 7, device: jetson-nano, link: wifi, keep: 0.6, dropout: 0.1}, "
    "{count: 3, device: jetson-orin-nano-8, link: wifi, keep: 1.0}]}",
)
"""Overrides that make it a run of ten boards of two kinds, of which up to three train together."""


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "rows.jsonl").read_text(encoding="utf-8").splitlines()]


def killed_run(config: Path, out: Path, *overrides: str, after_rows: int) -> None:
    """Begin a run in a process of its own and have SIGKILL end it after a checkpoint, with rows behind that one."""
    process = forks.context().Process(target=_run_and_die, args=(config, out, overrides, after_rows))
    process.start()  # a fork of what workers are forks of: all is imported
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert list(out.glob("checkpoint/*.json"))
    assert not (out / "metrics.json").exists()


def _run_and_die(config: Path, out: Path, overrides: Sequence[str], after_rows: int) -> None:
    write_row, numbers = RunDirectory.write_row, itertools.count(1)

    def write_and_die(directory: RunDirectory, row: dict[str, Any]) -> None:
        write_row(directory, row)
        if next(numbers) == after_rows:
            os.kill(os.getpid(), signal.SIGKILL)

    RunDirectory.write_row = write_and_die  # type: ignore[method-assign]
    chosen = load_config(config, overrides)
    simulate(load_experiment(chosen), RunDirectory.create(out, chosen), workers=0)


def whole_and_resumed_rows(
    config: Path, experiment: Experiment, directory: RunDirectory, killed: Path
) -> tuple[bytes, bytes]:
    """Return the rows of a whole run, and those of one that was killed half-way and finished by more workers."""
    simulate(experiment, directory, workers=1)
    killed_run(config, killed, after_rows=len(rows_of(directory.folder)) // 2)
    simulate(experiment, RunDirectory(killed), workers=2, resume=True)
    whole, resumed = ((folder / "rows.jsonl").read_bytes() for folder in (directory.folder, killed))
    return whole, resumed
