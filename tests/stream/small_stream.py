"""A run that looks as if it had ended, with random weights, and streams of its four boards: small enough for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from finished_runs import facts_of, finished_run
from tiny_runs import TINY

from cosp.config import checked, dump_config
from cosp.experiment import load_experiment
from cosp.run.directory import versions
from cosp.run.final import reading_of
from cosp.stream.deployed import Deployed, open_deployed
from cosp.stream.settings import AdaptConfig, load_adapt
from cosp.submodel.plan import SubmodelPlan, prefix_plan

STREAM: dict[str, Any] = {
    "name": "small",
    "stream": {
        "until_s": 50, "window_s": 10, "per_s": 1.0,
        "drift": [{"at_s": 20, "corruption": "contrast", "severity": 3}, {"at_s": 40, "corruption": "none"}],
    },
    "upload": {"rule": "random", "samples": 4},
    "adapt": {"batch": 8},
}  # fmt: skip


def trained_run(folder: Path) -> Path:
    """Write a run's directory whose model nobody trained; clients 0 and 1 hold half of a block, 2 and 3 all."""
    config = checked(TINY, "tiny")
    experiment = load_experiment(config)
    shape = experiment.shape
    plans: list[SubmodelPlan] = [prefix_plan(shape.sizes.scaled(0.5), 1)] * 2 + [shape.full_plan()] * 2
    reading = reading_of(experiment.dataset, config.data)
    facts = facts_of(shape, reading=reading, classes=experiment.dataset.classes, chosen_exit=2, data="digits")
    finished_run(folder, facts, experiment.initial_model(), *plans)
    (folder / "config.yaml").write_text(dump_config(config, versions()), encoding="utf-8")
    return folder


def written(folder: Path, run: Path, **changes: Any) -> Path:
    """Write the stream's configuration; ``changes`` replace whole sections."""
    path = folder / "stream.yaml"
    path.write_text(yaml.safe_dump({**STREAM, "model": {"pretrained": str(run)}, **changes}), encoding="utf-8")
    return path


def opened(folder: Path, run: Path, *sets: str, **changes: Any) -> tuple[AdaptConfig, Deployed]:
    return load_adapt(written(folder, run, **changes), sets), open_deployed(run, data_dir=None)
