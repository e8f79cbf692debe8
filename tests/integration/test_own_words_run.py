"""Boards that hold the rows of their own words alone: simulated by any number of workers, resumed, and by message."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import puppets
import pytest
import yaml
from flwr.app import Message
from puppets import FIRST, Puppets, experiment_with, introduced, kind, run_with, saying
from safetensors.torch import load_file
from tiny_runs import TINY, rows_of, whole_and_resumed_rows

from cosp.config import load_config
from cosp.errors import ConfigError
from cosp.experiment import load_experiment
from cosp.run.directory import RunDirectory
from cosp.simulation.simulate import simulate
from cosp.submodel.shape import layout_of

pytestmark = pytest.mark.integration

VOCABULARY, LENGTH = 300, 8
MODEL = {"dim": 16, "blocks": 2, "heads": 2, "hidden": 16, "exits": [1, 2], "vocabulary": "own"}


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts of four topics with thirty words each and some in common; word 299 is nobody's."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 400)
    topics = 20 + 60 * y[:, None] + rng.integers(0, 30, (400, LENGTH))
    x = np.where(rng.random((400, LENGTH)) < 0.3, rng.integers(0, 20, (400, LENGTH)), topics)
    x[0, 0] = VOCABULARY - 1  # so many words there are
    path = tmp_path_factory.mktemp("texts") / "topics.npz"
    np.savez(path, x=x.astype(np.int32), y=y)
    return path


def settings_of(texts: Path, **more: Any) -> dict[str, Any]:
    data = {"name": str(texts), "train": 200, "validation": 50, "test": 60, "partition": {"kind": "dirichlet"}}
    return {**TINY, "data": data, "model": MODEL, "server": {**TINY["server"], "checkpoint_every": 1}, **more}


def test_rows_do_not_depend_on_workers_or_on_a_resume(texts: Path, tmp_path: Path):
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(settings_of(texts)), encoding="utf-8")
    config = load_config(path)
    experiment = load_experiment(config)
    directory = RunDirectory.create(tmp_path / "run", config)
    whole, resumed = whole_and_resumed_rows(path, experiment, directory, tmp_path / "killed")
    assert whole == resumed
    rows = rows_of(directory.folder)
    told = {row["client"]: row["words"] for row in rows if row["kind"] == "client"}
    assert told == {client: len(experiment.words_of(client)) for client in range(4)}
    assert all(told[client] < 150 for client in told)
    sent = [row for row in rows if row["kind"] == "arrival" and row["task"] == "train"]
    full = next(row for row in rows if row["kind"] == "run")["parameters"]
    assert all(row["parameters"] <= full - 16 * (VOCABULARY - told[row["client"]]) for row in sent)


def test_rows_of_words_that_nobody_has_stay_as_they_began(texts: Path, tmp_path: Path):
    """Whole tables lose them to decay."""
    moved = {}
    for held in ("own", "whole"):
        path = tmp_path / f"{held}.yaml"
        method = {"name": "fedavg"}
        path.write_text(yaml.safe_dump(settings_of(texts, method=method, model={**MODEL, "vocabulary": held})))
        config = load_config(path)
        experiment = load_experiment(config)
        directory = RunDirectory.create(tmp_path / held, config)
        simulate(experiment, directory, workers=0)
        table = load_file(next((tmp_path / held / "checkpoint").glob("*.safetensors")))
        last = next(value for name, value in sorted(table.items(), reverse=True) if name.endswith("inputs.weight"))
        change = last - experiment.initial_model()["inputs.weight"]
        known = set().union(*map(set, (experiment.words_of(client) for client in range(4))))
        absent = [word for word in range(VOCABULARY) if word not in known]
        moved[held] = bool(change[absent].any())
        assert len(absent) > 100
        assert change[sorted(known)].any()
    assert moved == {"own": False, "whole": True}


def test_boards_that_are_asked_by_message_tell_their_words(texts: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("cosp.server.clock.POLL_S", 0.001)
    lies = {
        FIRST + 1: of_introduction(lambda e: introduced(e, 1, words=[0, VOCABULARY])),
        FIRST + 2: of_introduction(lambda e: introduced(e, 2, words=[3, 2])),
        FIRST + 3: of_introduction(lambda e: introduced(e, 3, words=None)),
    }
    experiment = experiment_with({**puppets.CONFIG, **settings_of(texts), "method": puppets.CONFIG["method"]})
    grid = Puppets(experiment, {node: lie(experiment) for node, lie in lies.items()})
    run_with(experiment, grid, tmp_path / "run")
    rows = rows_of(tmp_path / "run")
    refused = {row["node"]: row["detail"] for row in rows if row["kind"] == "refused"}
    assert "words: must lie below the model's 300, got 300" in refused[FIRST + 1]
    assert "words" in refused[FIRST + 2]
    clients = {row["client"]: row.get("words") for row in rows if row["kind"] == "client"}
    assert clients == {0: len(experiment.words_of(0)), 3: None}  # who tells none holds all
    trained = {row["client"]: row["parameters"] for row in rows if row["kind"] == "arrival" and row["accepted"]}
    table = layout_of(experiment.shape)["inputs.weight"].shape
    assert trained[3] >= table[0] * table[1] > trained[0]


def of_introduction(text: Callable[[Any], str]) -> Callable[[Any], puppets.Lie]:
    def lie_of(experiment: Any) -> puppets.Lie:
        def lie(request: Message, reply: Message) -> Message:
            return saying(reply, json.dumps(json.loads(text(experiment)))) if kind(request) == "query" else reply

        return lie

    return lie_of


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"data": TINY["data"], "model": {**MODEL, "patch": 4}},
            "model.vocabulary: own is for texts, digits has images: remove the key",
        ),
        (
            {
                "data": {
                    "name": "said",
                    "declared": {"shape": [8], "vocabulary": 300, "classes": 4, "samples_per_client": 20},
                }
            },
            "model.vocabulary: own takes each board's words from its texts, and data.declared has none",
        ),
        ({"method": {"name": "fedpm"}}, "model.vocabulary own does not go with method fedpm"),
        ({"model": {**MODEL, "vocabulary": "mine"}}, "model.vocabulary"),
    ],
)
def test_settings_that_do_not_go_together_are_one_line(texts: Path, tmp_path: Path, changes, line):
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump({**settings_of(texts), **changes}), encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        load_experiment(load_config(path))
    assert line in str(error.value)
    assert "\n" not in str(error.value)
