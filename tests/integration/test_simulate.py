"""Runs of a whole tiny fleet: what must hold whatever the method does."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from flwr.app import Message
from tiny_runs import TINY, rows_of

from cosp.config import load_config
from cosp.errors import ConfigError, UserError
from cosp.experiment import Experiment, load_experiment
from cosp.run import checkpoint
from cosp.run.directory import RunDirectory
from cosp.simulation.simulate import simulate
from cosp.simulation.virtual_grid import VirtualGrid
from cosp.submodel.flat import flatten, spans_of
from cosp.submodel.shape import layout_of
from cosp.task.task import Task
from cosp.trainer.store import open_store, write_store
from cosp.trainer.trainer import Trainer
from cosp.wire.messages import TensorArray

pytestmark = pytest.mark.integration

Rows = list[dict[str, Any]]
Run = Callable[..., Rows]


def of_kind(rows: Rows, kind: str) -> Rows:
    return [row for row in rows if row["kind"] == kind]


def test_the_number_of_workers_does_not_change_a_byte(start: Callable[..., Any]):
    def rows(workers: int) -> bytes:
        experiment, directory = start(out=f"workers{workers}")
        simulate(experiment, directory, workers=workers)
        return (directory.folder / "rows.jsonl").read_bytes()

    assert rows(0) == rows(1) == rows(2) == rows(3)


def test_a_run_that_has_ended_leaves_nothing_behind(start: Callable[..., Any]):
    experiment, directory = start()
    seen, before = weakref.ref(experiment), gc.get_threshold()
    gc.disable()
    try:
        simulate(experiment, directory, workers=0)
        del experiment
        assert seen() is None
    finally:
        gc.enable()
    assert gc.get_threshold() == before


def test_another_seed_gives_other_rows(run: Run):
    assert run(out="a") != run("seed=1", out="b")


def test_a_round_closes_at_its_quorum_and_late_updates_arrive_stale(run: Run):
    rows = run()
    rounds = of_kind(rows, "round")
    assert [row["version"] for row in rounds] == [0, 1, 2, 3, 4, 5, 6]
    assert {row["closed_by"] for row in rounds[1:]} == {"quorum"}
    assert all(row["arrivals"] >= 2 for row in rounds[1:])
    assert any(row["staleness"] > 0 for row in of_kind(rows, "arrival"))


def test_spans_of_a_task_add_up_to_its_arrival(run: Run):
    for row in of_kind(run(), "arrival"):
        spans = row["download_s"] + row["compute_s"] + row["upload_s"]
        assert row["sent_s"] + spans == pytest.approx(row["arrived_s"])


QUICKSTART = Path(__file__).parents[2] / "experiments/quickstart.yaml"
TRAINED = {"loss", "local_accuracy_received", "local_accuracy_trained", "evaluation", "coverage", "drift", "dry"}
"""What only training can say; scores decide which units are covered."""


def of_quickstart(folder: Path, *, dry: bool) -> Rows:
    config = load_config(QUICKSTART, ("server.versions=3", "training.epochs=1"))
    directory = RunDirectory.create(folder, config)
    simulate(load_experiment(config), directory, workers=2, dry=dry)
    return rows_of(directory.folder)


def without(rows: Rows, keys: set[str]) -> Rows:
    return [{key: value for key, value in row.items() if key not in keys} for row in rows]


def test_a_dry_run_of_the_quickstart_is_the_trained_one_but_for_what_training_says(tmp_path: Path):
    """Other scores choose other units but as many: every other value is equal to the bit."""
    trained = of_quickstart(tmp_path / "trained", dry=False)
    dry = of_quickstart(tmp_path / "dry", dry=True)
    assert without(dry, TRAINED) == without(trained, TRAINED)


def test_a_dry_run_stopped_goes_on_as_a_dry_run(start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch):
    experiment, whole = start(out="whole")
    simulate(experiment, whole, workers=1, dry=True)
    save = checkpoint.save

    def save_and_stop(*arguments: Any, **named: Any) -> None:
        save(*arguments, **named)
        raise KeyboardInterrupt

    experiment, directory = start(out="stopped")
    monkeypatch.setattr(checkpoint, "save", save_and_stop)
    with pytest.raises(KeyboardInterrupt):
        simulate(experiment, directory, workers=1, dry=True)
    monkeypatch.setattr(checkpoint, "save", save)
    assert directory.is_dry()
    simulate(experiment, directory, workers=1, dry=True, resume=True)
    assert rows_of(directory.folder) == rows_of(whole.folder)


def test_a_run_resumed_with_fewer_versions_than_it_has_ends(start: Callable[..., Any]):
    experiment, directory = start()
    simulate(experiment, directory, workers=1, dry=True)
    rows = rows_of(directory.folder)
    shorter, _ = start("server.versions=3", out="shorter")
    metrics = simulate(shorter, directory, workers=1, dry=True, resume=True)
    assert (metrics["rounds"], rows_of(directory.folder)) == (6, rows)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda facts: facts["in_flight"][0].update(node=999), "the checkpoint makes no sense (KeyError(999))"),
        (lambda facts: facts["records"].clear(), "the checkpoint makes no sense (KeyError('0'))"),
        (lambda facts: facts.update(config=3), "the checkpoint makes no sense (TypeError"),
        (lambda facts: facts.update(now_s="noon"), "the checkpoint cannot be read (could not convert string"),
        (
            lambda facts: facts.update(rows_bytes=0),
            "the checkpoint cannot be read (a time is negative, or there are no rows)",
        ),
    ],
)
def test_a_damaged_checkpoint_is_one_line(
    damage: Callable[[dict[str, Any]], None], said: str, start: Callable[..., Any]
) -> None:
    experiment, directory = start()
    simulate(experiment, directory, workers=1, dry=True)
    rows = rows_of(directory.folder)
    (path,) = directory.checkpoints.glob("*.json")
    facts = json.loads(path.read_text(encoding="utf-8"))
    damage(facts)
    path.write_text(json.dumps(facts), encoding="utf-8")
    with pytest.raises(UserError) as caught:
        simulate(experiment, directory, workers=1, dry=True, resume=True)
    assert said in str(caught.value)
    assert rows_of(directory.folder) == rows


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("model.dim=32", "model.dim was 16 when"),
        ("training.learning_rate=0.5", "training.learning_rate was .* when the run began and is 0.5 now"),
        ("server.deadline_s=9.0", "server.deadline_s was None when the run began and is 9.0 now"),
        ("seed=5", "seed was 0 when the run began and is 5 now"),
    ],
)
def test_a_run_does_not_go_on_with_other_settings(change: str, said: str, start: Callable[..., Any]) -> None:
    experiment, directory = start()
    simulate(experiment, directory, workers=1, dry=True)
    rows = rows_of(directory.folder)
    other, _ = start(change, out="other")
    with pytest.raises(UserError, match=f"cannot go on: {said}"):
        simulate(other, directory, workers=1, dry=True, resume=True)
    assert rows_of(directory.folder) == rows


def test_a_run_does_not_go_on_with_a_board_that_its_file_describes_otherwise(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    nano, device = Path("devices/jetson-nano.yaml").read_text(encoding="utf-8"), tmp_path / "own.yaml"
    device.write_text(nano, encoding="utf-8")
    fleet = f"fleet={{boards: [{{count: 2, device: {device}, link: wifi, keep: 0.5}}]}}"
    experiment, directory = start(fleet)
    simulate(experiment, directory, workers=1, dry=True)
    rows = rows_of(directory.folder)
    device.write_text(nano.replace("visible_mib: {value: 3964", "visible_mib: {value: 3500"), encoding="utf-8")
    other, _ = start(fleet, out="other")
    with pytest.raises(UserError, match="cannot go on: client 0's .* was .* when the run began and is"):
        simulate(other, directory, workers=1, dry=True, resume=True)
    assert rows_of(directory.folder) == rows


def test_a_limit_on_how_many_work_leaves_nobody_idle_for_ever(run: Run):
    rows = run("server.concurrency=1", "server.quorum=1", dry=True)
    trained = [row["client"] for row in of_kind(rows, "arrival") if row["task"] == "train"]
    assert trained == [0, 1, 2, 3, 0, 1]


def test_synchronous_rounds_wait_for_everybody(run: Run):
    rows = run("server.quorum=1.0")
    assert all(row["arrivals"] == 4 for row in of_kind(rows, "round")[1:])
    assert {row["staleness"] for row in of_kind(rows, "arrival")} == {0}


def test_a_deadline_closes_a_round_with_what_is_there(run: Run):
    rows = run("server.quorum=1.0", "server.deadline_s=0.05", "method={name: fedavg}")
    assert "deadline" in {row["closed_by"] for row in of_kind(rows, "round")}
    assert of_kind(rows, "round")[-1]["version"] == 6


def test_stale_updates_beyond_the_bound_are_refused_and_counted(start: Callable[..., Any]):
    experiment, directory = start("server.max_staleness=0", "server.quorum=1")
    metrics = simulate(experiment, directory, workers=1)
    refused = [row for row in rows_of(directory.folder) if row["kind"] == "arrival" and row["reason"] == "stale"]
    assert metrics["refused"] == {"stale": len(refused)}
    assert refused
    assert metrics["rounds"] == 6


def test_boards_that_drop_out_are_counted_and_the_run_goes_on(start: Callable[..., Any]):
    boards = [{**board, "dropout": 0.3} for board in TINY["fleet"]["boards"]]
    experiment, directory = start("fleet=" + yaml.safe_dump({"boards": boards}, default_flow_style=True))
    metrics = simulate(experiment, directory, workers=1)
    assert metrics["refused"]["dropout"] > 0
    assert metrics["rounds"] == 6


def test_a_poisoned_update_is_named_and_never_reaches_the_model(
    start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
):
    honest = VirtualGrid.pull_messages

    def poison(grid: VirtualGrid, ids: Iterable[str]) -> Iterable[Message]:
        replies = list(honest(grid, ids))
        for reply in replies:
            arrays = reply.content.array_records.get("arrays", {})
            if reply.metadata.src_node_id == 1003 and "loss" in reply.content.config_records["result"]["json"]:
                arrays["vector"] = TensorArray(torch.full_like(arrays["vector"].tensor, float("nan")))
        return replies

    monkeypatch.setattr(VirtualGrid, "pull_messages", poison)
    experiment, directory = start()
    metrics = simulate(experiment, directory, workers=1)
    refused = [row for row in rows_of(directory.folder) if row["kind"] == "arrival" and not row["accepted"]]
    assert {row["client"] for row in refused} == {3}
    assert metrics["refused"] == {"non-finite": len(refused)}
    assert metrics["rounds"] == 6
    assert all(bool(torch.isfinite(tensor).all()) for tensor in final_model(directory).values())


def test_equal_boards_at_zero_delay_are_fedavg(start: Callable[..., Any], tmp_path: Path):
    """Three synchronous versions against sample-weighted means of whole models, computed here.

    With SGD: AdamW turns the rounding noise of gradients that are zero in theory (key biases) into steps.
    """
    server = "server={versions: 3, quorum: 1.0, checkpoint_every: 3}"
    training = "training={optimizer: sgd, learning_rate: 0.05, epochs: 1, batch_size: 16}"
    experiment, directory = start("fleet=equal4", "jitter=0.0", server, training, "method={name: fedavg}")
    simulate(experiment, directory, workers=1)
    expected = fedavg_by_hand(experiment, versions=3, store=tmp_path)
    for name, tensor in final_model(directory).items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=1e-6)


def fedavg_by_hand(experiment: Experiment, *, versions: int, store: Path) -> dict[str, torch.Tensor]:
    write_store(store, experiment.splits, experiment.rows)
    trainer = Trainer(*open_store(store))
    shape, config = experiment.shape, experiment.config
    spans = spans_of(layout_of(shape), shape.full_plan().counts)
    model = flatten(experiment.initial_model(), spans).double()
    for version in range(versions):
        trained, weights = [], []
        for client in range(4):
            task = Task("train", client, version, version, config.seed, shape, shape.full_plan(),
                        training=config.training, transfer=config.method.transfer)  # fmt: skip
            facts, delta = trainer.run(task, model.float())
            trained.append(model + delta.double())
            weights.append(facts["samples"])
        model = sum(w * t for w, t in zip(weights, trained, strict=True)) / sum(weights)
    return {name: model[span.start : span.stop].view(span.shape).float() for name, span in spans.items()}


def final_model(directory: RunDirectory) -> dict[str, torch.Tensor]:
    saved = checkpoint.load(directory.checkpoints)
    assert saved is not None
    prefix = f"version/{saved.facts['version']}/"
    return {key[len(prefix) :]: tensor for key, tensor in saved.tensors.items() if key.startswith(prefix)}


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


def test_a_killed_run_resumes_to_the_same_rows(start: Callable[..., Any], tmp_path: Path):
    """``cosp run`` is killed (SIGKILL) half-way; ``cosp run --resume`` finishes it."""
    experiment, whole = start("server.versions=12", out="whole")
    simulate(experiment, whole, workers=1)
    killed, after_rows = tmp_path / "killed", len(rows_of(whole.folder)) // 2
    words = ["run", str(tmp_path / "tiny.yaml"), "--out", str(killed), "--workers", "1", "--set", "server.versions=12"]
    done = subprocess.run([sys.executable, "-c", DYING, str(after_rows), *words], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (killed / "metrics.json").exists()
    command = [sys.executable, "-m", "cosp.cli", "run", "--resume", str(killed), "--no-report", "--workers", "1"]
    subprocess.run(command, check=True, capture_output=True)
    assert rows_of(killed) == rows_of(whole.folder)


def test_a_run_killed_before_its_first_checkpoint_starts_again(start: Callable[..., Any]):
    experiment, directory = start("server.versions=2", out="whole")
    simulate(experiment, directory, workers=1)
    whole = rows_of(directory.folder)
    again, begun = start("server.versions=2", out="begun")
    begun.write_row({"kind": "run", "half": True})
    simulate(again, begun, workers=1, resume=True)
    assert rows_of(begun.folder) == whole


DECLARED = "data={name: imagenet, declared: {shape: [1, 8, 8], classes: 10, samples_per_client: 50}}"


def test_declared_data_run_dry(run):
    rows = run(DECLARED, dry=True)
    assert [(row["samples"], row["test_samples"]) for row in of_kind(rows, "client")] == [(40, 10)] * 4
    assert of_kind(rows, "round")[-1]["version"] == 6


def test_declared_data_cannot_be_trained_on(run):
    with pytest.raises(ConfigError, match=r"data\.declared: imagenet is declared, not here, .*add --dry"):
        run(DECLARED)


def test_an_interrupted_run_says_how_to_go_on(tmp_path):
    config, out = tmp_path / "tiny.yaml", tmp_path / "run"
    config.write_text(yaml.safe_dump(TINY), encoding="utf-8")
    words = ["run", str(config), "--out", str(out), "--workers", "1", "--set", "server.versions=5000"]
    command = [sys.executable, "-m", "cosp.cli", *words]

    def heed_interrupts() -> None:  # a shell starts what it puts into the background without
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=heed_interrupts
    ) as process:
        try:
            while process.poll() is None and not list(out.glob("checkpoint/*.json")):
                time.sleep(0.05)
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does: workers get it, too
            said = process.communicate(timeout=60)[1]
        finally:
            process.kill()
    assert process.returncode == 130
    assert said.splitlines()[-1] == f"cosp: interrupted; go on with: cosp run --resume {out}"
    assert "Traceback" not in said
