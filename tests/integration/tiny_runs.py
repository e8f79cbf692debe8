"""A run small enough for a test: 200 digits, four unequal boards, a two-block model, three versions."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from cosp.experiment import Experiment
from cosp.run.directory import RunDirectory
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

DYING = """
import itertools, os, signal, sys
from cosp.cli import main as cli
from cosp.run.directory import RunDirectory

write_row, numbers, last = RunDirectory.write_row, itertools.count(1), int(sys.argv.pop(1))

def write_and_die(directory, row):
    write_row(directory, row)
    if next(numbers) == last:
        os.kill(os.getpid(), signal.SIGKILL)

RunDirectory.write_row = write_and_die
cli.main()
"""
"""``cosp``, killed when it has written so many rows: whoever watches from outside may be too late on a busy machine."""


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "rows.jsonl").read_text(encoding="utf-8").splitlines()]


def killed_run(config: Path, out: Path, *flags: str, after_rows: int) -> None:
    """Start ``cosp run`` and have SIGKILL end it after a checkpoint, with rows behind that one."""
    words = ["run", str(config), "--out", str(out), "--workers", "1", *flags]
    done = subprocess.run([sys.executable, "-c", DYING, str(after_rows), *words], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert list(out.glob("checkpoint/*.json"))
    assert not (out / "metrics.json").exists()


def resume(folder: Path, *, workers: int) -> None:
    command = [sys.executable, "-m", "cosp.cli", "run", "--resume", str(folder), "--workers", str(workers)]
    subprocess.run(command, check=True, capture_output=True)


def whole_and_resumed_rows(
    config: Path, experiment: Experiment, directory: RunDirectory, killed: Path
) -> tuple[bytes, bytes]:
    """Return the rows of a whole run, and those of one that was killed half-way and finished by more workers."""
    simulate(experiment, directory, workers=1)
    killed_run(config, killed, after_rows=len(rows_of(directory.folder)) // 2)
    simulate(experiment, RunDirectory(killed), workers=2, resume=True)
    whole, resumed = ((folder / "rows.jsonl").read_bytes() for folder in (directory.folder, killed))
    return whole, resumed
