"""Runs with frozen parts: what travels once, resumed, dry, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from flwr.app import Message
from puppets import FIRST, Puppets, experiment_with, fails, kind, run_with
from safetensors.torch import load_file
from tiny_runs import TINY, rows_of, whole_and_resumed_rows

from cosp.config import load_config
from cosp.errors import ConfigError
from cosp.experiment import load_experiment
from cosp.run.directory import RunDirectory

pytestmark = pytest.mark.integration
Run = Callable[..., list[dict[str, Any]]]
MODEL = {"patch": 4, "dim": 16, "blocks": 3, "heads": 2, "hidden": 16, "exits": [1, 2, 3]}
FROZEN = "training={epochs: 1, batch_size: 16, frozen: [{blocks: 1}]}"


def sent(rows: list[dict[str, Any]], client: int, task: str = "train") -> list[int]:
    return [r["bytes_down"] for r in rows if r["kind"] == "arrival" and (r["client"], r["task"]) == (client, task)]


def test_frozen_parts_travel_once(run: Run):
    rows = run(f"model={MODEL}", FROZEN, "method={name: fedavg}", "server.quorum=1.0", workers=0)
    first, *later = sent(rows, 0)
    plain = run(f"model={MODEL}", "method={name: fedavg}", "server.quorum=1.0", out="plain", workers=0)
    block = 16 * 16 * 4 + 16 * 4 + 16 * 16 * 2 + 32 + 4 * 16
    inputs = 16 + 5 * 16 + 16 * 17
    tensors = 12 + 4
    assert first == sent(plain, 0)[0]
    assert set(later) == {first - 4 * (block + inputs) + 16 * tensors}
    told = {row["client"]: row["parameters"] for row in rows if row["kind"] == "arrival"}
    assert told == {row["client"]: row["parameters"] for row in plain if row["kind"] == "arrival"}


def test_a_dry_run_has_the_same_bytes(run: Run):
    """Of a real one, too, whose scores come to the same plans' sizes."""
    changes = (f"model={MODEL}", FROZEN, "method={name: fedavg}")
    real, dry = run(*changes, workers=0), run(*changes, out="dry", dry=True)
    assert [r["bytes_down"] for r in real if r["kind"] == "arrival"] == [
        r["bytes_down"] for r in dry if r["kind"] == "arrival"
    ]


def test_the_trunk_is_whole_and_stays_as_it_began(run: Run, tmp_path: Path):
    rows = run(f"model={MODEL}", FROZEN, workers=0)
    assert len({row["depth"] for row in rows if row["kind"] == "arrival"}) >= 1
    config = load_config(tmp_path / "tiny.yaml", (f"model={MODEL}", FROZEN))
    began = load_experiment(config).initial_model()
    tensors = load_file(next((tmp_path / "run" / "checkpoint").glob("*.safetensors")))
    left = {name.rpartition("/")[2]: value for name, value in tensors.items() if name.startswith("version/6/")}
    moved = {name for name, value in left.items() if not torch.equal(value, began[name])}
    frozen = {name for name in began if name.startswith(("blocks.0.", "inputs", "positions", "class_token"))}
    assert moved == began.keys() - frozen


def evaluations(rows: list[dict[str, Any]]) -> list[Any]:
    return [row["evaluation"] for row in rows if row["kind"] == "round"]


@pytest.mark.parametrize("form", ["float16", "bfloat16"])
def test_halves_are_half_the_bytes_and_learn_what_the_rounded_model_does(
    run: Run, tmp_path: Path, monkeypatch, form: str
):
    changes = (f"model={MODEL}", FROZEN, "method={name: fedavg}", "server.quorum=1.0")
    halves = run(*changes, f"training.frozen_as={form}", workers=0)
    rounded = load_experiment(
        load_config(tmp_path / "tiny.yaml", (*changes, f"training.frozen_as={form}"))
    ).initial_model()
    with monkeypatch.context() as patch:
        patch.setattr("cosp.experiment.Experiment.initial_model", lambda experiment: rounded)
        whole = run(*changes, out="whole", workers=0)
    assert evaluations(halves) == evaluations(whole)
    assert len(evaluations(halves)) == 7
    assert None not in evaluations(halves)
    (first, *later), (other, *others) = sent(halves, 0), sent(whole, 0)
    assert other - first == 2 * (16 * 16 * 4 + 16 * 4 + 16 * 16 * 2 + 32 + 4 * 16 + 16 + 5 * 16 + 16 * 17)
    assert later == others


def test_what_float16_cannot_say_is_one_line(tmp_path: Path, monkeypatch):
    path = tmp_path / "large.yaml"
    training = {"epochs": 1, "batch_size": 16, "frozen": ["inputs"], "frozen_as": "float16"}
    path.write_text(yaml.safe_dump({**TINY, "model": MODEL, "training": training}), encoding="utf-8")

    def too_large(model: torch.nn.Module, generator: torch.Generator) -> None:
        for name, parameter in model.named_parameters():
            parameter.data.fill_(1e6 if name == "positions" else 0.0)

    monkeypatch.setattr("cosp.models.transformer.initialise", too_large)
    with pytest.raises(ConfigError, match="^training.frozen_as: float16 ends at 65504, positions has larger numbers"):
        load_experiment(load_config(path)).initial_model()


def test_a_run_that_is_resumed_writes_the_same_rows(tmp_path: Path):
    path = tmp_path / "frozen.yaml"
    training = {"epochs": 1, "batch_size": 16, "frozen": ["norms", {"blocks": 1}]}
    server = {**TINY["server"], "checkpoint_every": 1}
    path.write_text(yaml.safe_dump({**TINY, "model": MODEL, "training": training, "server": server}), encoding="utf-8")
    config = load_config(path)
    directory = RunDirectory.create(tmp_path / "run", config)
    whole, resumed = whole_and_resumed_rows(path, load_experiment(config), directory, tmp_path / "killed")
    assert whole == resumed


def test_who_loses_a_task_is_sent_everything_again(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("cosp.server.clock.POLL_S", 0.001)
    failed: list[int] = []

    def once(request: Message, reply: Message) -> Message:
        if kind(request) == "train" and request.metadata.group_id == "2" and not failed:
            failed.append(1)
            return fails("not kept")(request, reply)  # type: ignore[return-value]
        return reply

    training = {"epochs": 1, "batch_size": 16, "frozen": ["inputs"]}
    experiment = experiment_with({**TINY, "training": training, "method": {"name": "fedavg"}})
    run_with(experiment, Puppets(experiment, {FIRST: once}), tmp_path / "run")
    first, second, *later = sent(rows_of(tmp_path / "run"), 0)
    assert first > second
    assert first in later
    assert second in later
    assert set(sent(rows_of(tmp_path / "run"), 1)[1:]) == {second}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            "training.frozen=[everything]",
            "frozen must name some of inputs, words, norms, blocks: N, trunk (N at least 1), got",
        ),
        ("training.frozen=[{blocks: 0}]", "frozen must name some of"),
        ("training.frozen=[norms, norms]", "frozen names a part twice: norms, norms"),
        ("training.frozen=[{blocks: 9}]", "training.frozen: blocks: 9 are more than the model's 3"),
        ("training.frozen=[words]", "training.frozen: words is for texts, digits has images"),
        ("method={name: fiarse}", "training.frozen does not go with method fiarse"),
    ],
)
def test_wrong_parts_are_one_line(tmp_path: Path, changes: str, line: str):
    path = tmp_path / "wrong.yaml"
    training = {"epochs": 1, "batch_size": 16, "frozen": ["norms"]}
    path.write_text(yaml.safe_dump({**TINY, "model": MODEL, "training": training}), encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        load_experiment(load_config(path, (changes,)))
    assert line in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("rule", ["rate", "memory_share"])
def test_a_budget_below_the_frozen_trunk_is_one_line(tmp_path: Path, rule: str):
    path = tmp_path / "small.yaml"
    board = {"device": "jetson-nano", "link": "wifi", "keep": 0.05}
    training = {"epochs": 1, "batch_size": 1, "frozen": [{"blocks": 3}]}
    settings = {**TINY, "model": MODEL, "training": training, "method": {"name": "co-s2p"}}
    settings |= {"assignment": {"rule": rule}, "fleet": {"boards": [board]}}
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    experiment = load_experiment(load_config(path))
    with pytest.raises(ConfigError, match="the frozen trunk of 3 blocks, which is held whole") as error:
        experiment.method(experiment.introductions)
    assert "\n" not in str(error.value)
