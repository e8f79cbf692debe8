"""Scores of a trained model on data with labels: of the run's own, of other data by the names of their classes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from finished_runs import facts_of, finished_run
from small_models import SMALL, random_state
from typer.testing import CliRunner

from cosp.cli.main import app
from cosp.data.columns import Columns
from cosp.errors import UserError
from cosp.predict.answers import answers
from cosp.predict.evaluation import evaluate, exit_flops
from cosp.predict.labelled import labelled
from cosp.predict.opened import Opened, open_model
from cosp.submodel.footprint import footprint

COUNT = 40


@pytest.fixture
def model(tmp_path: Path) -> Opened:
    return open_model(finished_run(tmp_path / "run", facts_of(SMALL), random_state(SMALL)))


def arrays(path: Path, names: tuple[str, ...]) -> Path:
    """Images that the model gets right but for every fourth, with names for labels."""
    rng = np.random.default_rng(0)
    np.savez(path, x=rng.normal(3, 2, (COUNT, 4, 4)), y=np.array([names[i % len(names)] for i in range(COUNT)]))
    return path


def test_classes_go_by_their_names(model: Opened, tmp_path: Path) -> None:
    file = arrays(tmp_path / "data.npz", ("class 2", "class 1"))  # two of three, sorted otherwise in the file
    x, y, what = labelled(model, str(file), data_dir=None, columns=Columns())
    assert sorted(set(y.tolist())) == [1, 2]
    assert (len(x), what) == (COUNT, "data, all of it")
    with np.load(file) as raw:
        assert [f"class {number}" for number in y] == raw["y"].tolist()


def test_a_class_that_the_model_does_not_know_is_one_line(model: Opened, tmp_path: Path) -> None:
    file = arrays(tmp_path / "data.npz", ("class 1", "cat"))
    with pytest.raises(UserError, match="class 'cat' is none of the model's: class 0, class 1, class 2"):
        labelled(model, str(file), data_dir=None, columns=Columns())


def test_an_exit_scores_what_it_answers_right(model: Opened, tmp_path: Path) -> None:
    x, y, _ = labelled(model, str(arrays(tmp_path / "d.npz", ("class 0", "class 1"))), data_dir=None, columns=Columns())
    alone, sure = evaluate(model, x, y)
    for score, after in zip(alone, model.facts.exits, strict=True):
        found = answers(model, x, after=after).probabilities.argmax(-1)
        assert score.accuracy == pytest.approx(float((found == y).mean()))
    for score in sure:
        confident = float(score.name.split()[1])
        found = answers(model, x, confident=confident)
        assert score.accuracy == pytest.approx(float((found.probabilities.argmax(-1) == y).mean()))
        assert score.flops == pytest.approx(
            np.mean([exit_flops(model.facts, model.facts.exits)[after - 1] for after in found.exits])
        )
        assert score.ms is not None


def test_who_leaves_last_costs_the_whole_model(model: Opened) -> None:
    costs = exit_flops(model.facts, model.facts.exits)
    assert costs == sorted(costs)
    assert costs[-1] == footprint(SMALL, SMALL.full_plan().counts).forward_flops


def test_the_command_prints_a_table_and_draws_a_figure(model: Opened, tmp_path: Path) -> None:
    file = arrays(tmp_path / "d.npz", ("class 0", "class 1"))
    words = ["evaluate", str(model.path), "--data", str(file)]
    told = CliRunner().invoke(app, [*words, "--json", "--out", str(tmp_path / "figure.svg")])
    assert told.exit_code == 0, told.output
    assert (tmp_path / "figure.svg").read_text().startswith("<?xml")
    found = json.loads(told.stdout)
    assert [score["name"] for score in found["exits"]] == ["exit 1", "exit 2", "exit 3"]
    assert "confident 0.9" in CliRunner().invoke(app, words).output


def test_a_model_without_data_of_its_own_asks_for_some(model: Opened) -> None:
    with pytest.raises(UserError, match="holds no run to go on with|give --data"):
        labelled(model, None, data_dir=None, columns=Columns())
