"""A run that trains many clients in one pass: the same bytes at any number of workers, and after a resume."""

from __future__ import annotations

import json
from typing import get_args

import pytest
from tiny_runs import TOGETHER, killed_run, rows_of

from cosp.errors import ConfigError
from cosp.methods import MethodSettings
from cosp.run.directory import RunDirectory
from cosp.simulation.simulate import simulate

pytestmark = pytest.mark.integration


def test_rows_are_the_same_at_any_number_of_workers_and_after_a_resume(start, tmp_path):
    folders = []
    for workers in (0, 1, 2):
        experiment, directory = start(*TOGETHER, out=f"with-{workers}")
        simulate(experiment, directory, workers=workers)
        folders.append(directory.folder)
    inline, *local = ((folder / "rows.jsonl").read_bytes() for folder in folders)
    assert local == [inline, inline]
    read = 0
    for after_rows in (len(rows_of(folders[0])) * share // 8 for share in (5, 7)):
        killed = tmp_path / f"killed-{after_rows}"
        killed_run(tmp_path / "tiny.yaml", killed, *TOGETHER, after_rows=after_rows)
        (saved,) = killed.glob("checkpoint/*.json")
        groups = json.loads(saved.read_text(encoding="utf-8"))["fleet"]["together"]
        read += sum(len(group["tasks"]) - len(group["asked"]) for group in groups)
        simulate(experiment, RunDirectory(killed), workers=2, resume=True)
        assert (killed / "rows.jsonl").read_bytes() == inline
    assert read > 0  # groups of which some had been read


def test_what_is_learnt_is_what_each_alone_would_learn(start):
    rows = []
    for together in (1, 4):
        experiment, directory = start(*TOGETHER, f"together={together}", "training.optimizer=sgd", out=f"of-{together}")
        simulate(experiment, directory, workers=0)
        rows.append(rows_of(directory.folder))
    alone, together = rows
    timeline = ("kind", "client", "task", "version", "base_version", "arrived_s", "virtual_s", "reason", "samples")
    assert [[row.get(key) for key in timeline] for row in alone] == [
        [row.get(key) for key in timeline] for row in together
    ]
    losses = [[row["loss"] for row in rows if row.get("loss") is not None] for rows in (alone, together)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-3)
    assert losses[0] != losses[1]


FORMS = {form.model_fields["name"].default: form for form in get_args(get_args(MethodSettings)[0])}


@pytest.mark.parametrize("name", FORMS)
def test_a_method_trains_clients_together_or_refuses_to(start, name):
    adapters = ["model.adapters={rank: 2}"] if FORMS[name].trains_adapters_alone else []
    settings = (*TOGETHER, "server.versions=2", f"method={{name: {name}}}", *adapters)
    if not FORMS[name].takes_company or FORMS[name].trains_adapters_alone:
        with pytest.raises(ConfigError, match=f"together 3 does not go with (method {name}|training.frozen)"):
            start(*settings)
        return
    experiment, directory = start(*settings)
    metrics = simulate(experiment, directory, workers=0)
    assert metrics["rounds"] == 2
    assert set(metrics["refused"]) <= {"dropout"}
    trained = [row for row in rows_of(directory.folder) if row.get("task") == "train" and row["accepted"]]
    assert all(row["loss"] > 0 for row in trained)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("training.checkpointing=true", "training.checkpointing"),
        ("training.precision=mixed", "training.precision mixed"),
        ("training.frozen=[inputs]", "training.frozen"),
    ],
)
def test_what_does_not_go_with_it_is_named(start, setting, said):
    with pytest.raises(ConfigError, match=f"together 3 does not go with {said}: leave one of the two out"):
        start(*TOGETHER, setting)
