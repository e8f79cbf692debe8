"""What every method costs a weak and a strong board, by the cost model: a first training task of each, side by side.

    python benchmarks/method_costs.py [CONFIG] [--data-dir DIR]

Prints a Markdown table: memory, seconds and bytes of the board that may keep least of the model and of the one that may
keep most; "-" marks a board that takes no part.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np

from cosp.config import load_config
from cosp.experiment import Experiment, load_experiment
from cosp.fleet.cost import cost
from cosp.fleet.introduction import Introduction
from cosp.methods import MethodSettings
from cosp.methods.clients import ClientRecord
from cosp.methods.pricing import work_of
from cosp.submodel.selection import random_scores
from cosp.task.demand import download_bytes, peak_memory_bytes, upload_bytes
from cosp.task.task import Task

ROOT = Path(__file__).resolve().parents[1]
FORMS = get_args(get_args(MethodSettings)[0])
METHODS = tuple(form.model_fields["name"].default for form in FORMS)
LOW_RANK = {form.model_fields["name"].default for form in FORMS if form.trains_adapters_alone}
EXTRA = {
    "fedavg, smallest": "{name: fedavg, submodel: smallest}",
    "fedavg, fitting": "{name: fedavg, submodel: fitting}",
}


@dataclass(frozen=True)
class Price:
    """One training task on one board."""

    memory_bytes: int
    compute_s: float
    bytes_down: int
    bytes_up: int


def price(experiment: Experiment, client: Introduction) -> Price | None:
    """Return what a first training task costs ``client``, None if the method leaves it out."""
    method = experiment.method(experiment.introductions)
    if not method.takes_part(client):
        return None
    scores = random_scores(experiment.shape, method.submodels.depth(client), np.random.default_rng(0))
    squares = tuple({group: np.square(values) for group, values in block.items()} for block in scores)
    record = ClientRecord(introduction=client, scores=squares, version=10)
    parts = method.local.parts(record, experiment.config.trains)
    task = Task("train", client.client, 0, 0, 0, experiment.shape, method.submodels.plan(record), **parts)
    spent = cost(
        experiment.boards[client.client], work_of(task, samples=client.samples, test_samples=client.test_samples)
    )
    return Price(peak_memory_bytes(task), spent.compute_s, download_bytes(task), upload_bytes(task))


def cells(found: Price | None) -> list[str]:
    if found is None:
        return ["-"] * 4
    sizes = [f"{value / 1e6:.2f}" for value in (found.memory_bytes, found.bytes_down, found.bytes_up)]
    return [sizes[0], f"{found.compute_s:.2f}", *sizes[1:]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", type=Path, default=ROOT / "experiments" / "quickstart.yaml")
    parser.add_argument("--data-dir", type=Path)
    arguments = parser.parse_args()
    asked = {name: f"{{name: {name}}}" for name in METHODS} | EXTRA
    names = ["memory, MB", "compute, s", "down, MB", "up, MB"]
    print("| method | " + " | ".join(f"{name} ({keep})" for keep in ("weakest", "strongest") for name in names) + " |")
    print("| --- " * 9 + "|")
    for name, method in asked.items():
        adapters = ["model.adapters={rank: 8}"] if name in LOW_RANK else []
        config = load_config(arguments.config, [f"method={method}", *adapters])
        experiment = load_experiment(config, data_dir=arguments.data_dir)
        boards = sorted(experiment.introductions, key=lambda client: client.keep or 1.0)
        row = cells(price(experiment, boards[0])) + cells(price(experiment, boards[-1]))
        print(f"| {name} | " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
