"""Every method trains a tiny fleet for two versions: finite, changed, and the same rows whenever it is run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from tiny_runs import rows_of
from torch import Tensor

from cosp.experiment import Experiment
from cosp.methods import MethodSettings
from cosp.run import checkpoint
from cosp.run.directory import RunDirectory
from cosp.run.evaluation import in_process
from cosp.run.pool import Source
from cosp.run.serve import serve
from cosp.simulation.simulate import simulate
from cosp.simulation.virtual_grid import VirtualGrid
from cosp.task.serial import task_from_json, task_to_json
from cosp.task.task import Task
from cosp.trainer.store import open_store, write_store
from cosp.trainer.trainer import Result, Trainer

pytestmark = pytest.mark.integration

METHODS = tuple(form.model_fields["name"].default for form in get_args(get_args(MethodSettings)[0]))
LOW_RANK = tuple(
    form.model_fields["name"].default for form in get_args(get_args(MethodSettings)[0]) if form.trains_adapters_alone
)
QUICK = ("server.versions=2", "server.checkpoint_every=2")
Go = Callable[..., tuple[Experiment, RunDirectory, dict[str, Any]]]


def named(name: str) -> tuple[str, ...]:
    """Return what a configuration needs to say for the method of that name."""
    return (f"method={{name: {name}}}", *(("model.adapters={rank: 4}",) if name in LOW_RANK else ()))


class OwnPool:
    """Does the workers' work in this process: starting processes would take longer than these runs."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer

    def submit(
        self, task: Task, floats: int, fill: Callable[[Tensor], None], *, priority: float, source: Source = None
    ) -> Result:
        vector = torch.empty(floats)
        fill(vector)
        return self.trainer.run(task_from_json(task_to_json(task)), vector)

    def result(self, job: Result) -> Result:
        return job

    def cancel(self, job: Result) -> None:
        pass


@pytest.fixture
def go(start: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Go:
    """Return a function that runs a tiny experiment with ``key=value`` overrides."""

    def run(*overrides: str) -> tuple[Experiment, RunDirectory, dict[str, Any]]:
        folder = tmp_path_factory.mktemp("run")
        experiment, directory = start(*QUICK, *overrides, out=str(folder / "out"))
        write_store(folder, experiment.splits, experiment.rows)
        trainer = Trainer(*open_store(folder))
        grid = VirtualGrid(experiment.fleet, experiment.introductions, OwnPool(trainer), sigma=experiment.config.jitter)
        return experiment, directory, serve(grid, experiment, directory, evaluate_with=in_process(trainer))

    return run


def final_model(directory: RunDirectory) -> dict[str, torch.Tensor]:
    saved = checkpoint.load(directory.checkpoints)
    assert saved is not None
    return {key[len("version/2/") :]: value for key, value in saved.tensors.items() if key.startswith("version/2/")}


def trained_by(go: Go, method: str) -> dict[str, torch.Tensor]:
    _, directory, _ = go(f"method={method}")
    return final_model(directory)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_trains_to_something_finite_and_new_and_repeats_itself(go: Go, name: str):
    experiment, directory, metrics = go(*named(name))
    _, again, _ = go(*named(name))
    assert (directory.folder / "rows.jsonl").read_bytes() == (again.folder / "rows.jsonl").read_bytes()
    assert (metrics["rounds"], metrics["refused"]) == (2, {})
    before, after = experiment.initial_model(), final_model(directory)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in after.values())
    assert any(not torch.equal(after[tensor], before[tensor]) for tensor in before)
    trained = [row for row in rows_of(directory.folder) if row["kind"] == "arrival" and row["task"] == "train"]
    assert all(row["accepted"] and row["weight"] > 0 and row["loss"] > 0 for row in trained)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_runs_dry(start: Callable[..., Any], name: str):
    experiment, directory = start(*QUICK, *named(name))
    metrics = simulate(experiment, directory, workers=1, dry=True)
    assert (metrics["rounds"], metrics["refused"]) == (2, {})


CHANGING = """{boards: [
    {device: jetson-nano, link: wifi, keep: 0.7, changes: [{at_s: 0.03, keep: 0.4}]},
    {device: jetson-nano, link: wifi, changes: [{at_s: 0.04, memory_mib: 0.15}, {at_s: 0.08, memory_mib: 50}]},
    {device: jetson-orin-nano-8, link: wifi, changes: [{at_s: 0.025, memory_mib: 0.01}, {at_s: 0.06, memory_mib: 50}]},
    {device: jetson-agx-orin-64, link: ethernet, keep: 1.0}]}"""


@pytest.mark.parametrize("name", METHODS)
def test_a_method_goes_on_when_budgets_change(start: Callable[..., Any], name: str):
    experiment, directory = start("server.versions=16", *named(name), f"fleet={CHANGING}")
    metrics = simulate(experiment, directory, workers=1, dry=True)
    assert metrics["rounds"] == 16
    assert set(metrics["refused"]) <= {"memory"}


@pytest.mark.parametrize("name", METHODS)
def test_a_method_trains_texts(go: Go, tmp_path: Path, name: str):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "texts.npz", x=rng.integers(0, 20, (200, 6)), y=np.arange(200) % 3)
    _, _, metrics = go(
        f"data={{name: {tmp_path / 'texts.npz'}, partition: {{kind: iid}}}}",
        "model={dim: 16, blocks: 2, heads: 2, hidden: 16, exits: [1, 2]}",
        *named(name),
    )
    assert (metrics["rounds"], metrics["refused"]) == (2, {})


@pytest.mark.parametrize("name", METHODS)
def test_a_method_trains_series(go: Go, tmp_path: Path, name: str):
    x = np.random.default_rng(0).normal(size=(200, 6, 3))
    np.savez(tmp_path / "moves.npz", x=x, y=np.arange(200) % 3)
    experiment, _, metrics = go(
        f"data={{name: {tmp_path / 'moves.npz'}, kind: series, partition: {{kind: iid}}}}",
        "model={patch: 2, dim: 16, blocks: 2, heads: 2, hidden: 16, exits: [1, 2]}",
        *named(name),
    )
    assert experiment.shape.sample_shape == (6, 3)
    assert (metrics["rounds"], metrics["refused"]) == (2, {})


def test_boards_that_take_no_part_are_sent_nothing(go: Go):
    _, directory, _ = go("method={name: fedavg, submodel: fitting}")
    assert {row["client"] for row in rows_of(directory.folder) if row["kind"] == "arrival"} == {3}


def test_an_asynchronous_method_sets_its_own_quorum(go: Go):
    _, directory, _ = go("method={name: fedasync}", "server.quorum=1.0")
    rows = rows_of(directory.folder)
    assert [row["arrivals"] for row in rows if row["kind"] == "round"] == [0, 1, 1]
    assert rows[0]["quorum"] == 1


def test_fedprox_without_a_pull_is_fedavg(go: Go):
    prox, plain = trained_by(go, "{name: fedprox, mu: 0}"), trained_by(go, "{name: fedavg}")
    pulled = trained_by(go, "{name: fedprox, mu: 1.0}")
    assert all(torch.equal(prox[name], plain[name]) for name in plain)
    assert any(not torch.equal(pulled[name], plain[name]) for name in plain)


def test_fjord_without_smaller_rates_is_heterofl_without_its_switches(go: Go):
    fjord = trained_by(go, "{name: fjord, rates: []}")
    plain = trained_by(go, "{name: heterofl, scaler: false, masked_loss: false}")
    assert all(torch.equal(fjord[name], plain[name]) for name in plain)
