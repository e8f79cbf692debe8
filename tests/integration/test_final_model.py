"""Every run ends with its model on disk, and another run can begin with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import TINY, rows_of

from cosp.checkpoints import import_state, open_checkpoint
from cosp.checkpoints.own import read_boards, read_facts
from cosp.config import checked
from cosp.errors import UserError
from cosp.experiment import Experiment, load_experiment
from cosp.export.chosen import narrow_model
from cosp.predict.inputs import read_inputs
from cosp.predict.opened import open_model
from cosp.run.directory import RunDirectory
from cosp.simulation.simulate import simulate
from cosp.submodel.plan import SubmodelPlan
from cosp.submodel.shape import layout_of
from cosp.submodel.slicing import extract

TWO = {**TINY, "server": {"versions": 2, "checkpoint_every": 1}}


def started(folder: Path, **changes: Any) -> tuple[Experiment, RunDirectory]:
    config = checked({**TWO, **changes}, "test")
    return load_experiment(config), RunDirectory.create(folder, config)


def ran(folder: Path, **changes: Any) -> Experiment:
    experiment, directory = started(folder, **changes)
    simulate(experiment, directory, workers=0)
    return experiment


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Experiment]:
    folder = tmp_path_factory.mktemp("runs") / "a"
    return folder, ran(folder)


def test_the_model_scores_what_the_run_s_last_row_says(run: tuple[Path, Experiment]) -> None:
    folder, experiment = run
    facts = read_facts(folder / "model" / "cosp.json")
    state = load_file(folder / "model" / "model.safetensors")
    test = experiment.dataset.test
    with torch.no_grad():
        exits = narrow_model(facts, state)(torch.from_numpy(np.asarray(test.x)))
    said = rows_of(folder)[-1]["evaluation"]
    assert [float((z.argmax(-1).numpy() == test.y).mean()) for z in exits] == pytest.approx(said["accuracy"])
    assert [score.accuracy for score in facts.scores] == said["accuracy"]
    assert facts.chosen_exit == facts.exits[said["chosen_exit"]]
    assert (facts.classes, facts.reading.white) == (experiment.dataset.classes, 16.0)
    assert facts.reading.mean == experiment.dataset.mean


def test_it_says_what_each_board_would_train_next(run: tuple[Path, Experiment]) -> None:
    folder, experiment = run
    boards = read_boards(folder / "model", experiment.shape)
    assert [boards[n].board for n in sorted(boards)] == [board.profile.name for board in experiment.boards]
    held = [boards[n].plan for n in sorted(boards) if boards[n].plan is not None]
    assert held
    assert all(isinstance(plan, SubmodelPlan) for plan in held)
    state = load_file(folder / "model" / "model.safetensors")
    for plan in held:
        extract(state, layout_of(experiment.shape), plan)


def test_a_dry_run_has_no_model(tmp_path: Path) -> None:
    experiment, directory = started(tmp_path / "dry")
    simulate(experiment, directory, workers=0, dry=True)
    assert not (tmp_path / "dry" / "model").exists()
    with pytest.raises(UserError, match="dry run"):
        open_checkpoint(str(tmp_path / "dry"))


def test_a_run_that_ended_without_one_gets_it_when_resumed(run: tuple[Path, Experiment], tmp_path: Path) -> None:
    folder, _ = run
    experiment, directory = started(tmp_path / "b")
    simulate(experiment, directory, workers=0)
    (tmp_path / "b" / "model").rename(tmp_path / "kept")
    rows = (tmp_path / "b" / "rows.jsonl").read_bytes()
    simulate(experiment, RunDirectory(tmp_path / "b"), workers=0, resume=True)
    for name in ("model.safetensors", "cosp.json", "boards.json"):
        assert (tmp_path / "b" / "model" / name).read_bytes() == (folder / "model" / name).read_bytes()
    assert (tmp_path / "b" / "rows.jsonl").read_bytes() == rows


def test_a_run_begins_with_another_s_model(run: tuple[Path, Experiment], tmp_path: Path) -> None:
    folder, _ = run
    second = ran(tmp_path / "second", model={"pretrained": str(folder)}, method={"name": "fedavg"})
    began, held = second.initial_model(), load_file(folder / "model" / "model.safetensors")
    assert began.keys() == held.keys()
    assert all(torch.equal(began[name], held[name]) for name in held)
    assert rows_of(tmp_path / "second")[-1]["evaluation"]["accuracy"]
    first_row = next(row for row in rows_of(tmp_path / "second") if row["kind"] == "round")
    assert first_row["evaluation"] == rows_of(folder)[-1]["evaluation"]  # version 0 is what the first run ended with


@pytest.mark.parametrize("exits", [[2], [1, 2]])
def test_exits_that_the_first_run_has_not_are_told(run: tuple[Path, Experiment], exits: list[int]) -> None:
    folder, _ = run
    model = {"pretrained": str(folder), "exits": exits}
    experiment = load_experiment(checked({**TWO, "model": model}, "test"))
    assert experiment.imported is not None
    assert experiment.imported.drawn == ()
    held = load_file(folder / "model" / "model.safetensors")
    assert torch.equal(experiment.initial_model()[f"exits.{len(exits) - 1}.head.weight"], held["exits.1.head.weight"])


def test_a_model_of_other_samples_is_one_line(run: tuple[Path, Experiment], tmp_path: Path) -> None:
    folder, _ = run
    x, y = np.zeros((40, 7), np.int32), np.arange(40) % 2
    np.savez(tmp_path / "words.npz", x=x, y=y)
    config = checked({**TWO, "data": {"name": str(tmp_path / "words.npz")}, "model": {"pretrained": str(folder)}}, "t")
    with pytest.raises(UserError, match="the model reads images"):
        load_experiment(config)


Damage = Callable[[Path], Any]


@pytest.mark.parametrize(
    ("name", "damage", "why"),
    [
        ("cosp.json", lambda path: path.write_text("{}"), "is no description of a model"),
        ("model.safetensors", lambda path: path.write_bytes(b"nothing"), "cannot be read"),
    ],
)
def test_a_damaged_model_is_one_line(
    run: tuple[Path, Experiment], tmp_path: Path, name: str, damage: Damage, why: str
) -> None:
    folder, _ = run
    copy = tmp_path / "model"
    copy.mkdir()
    for path in (folder / "model").iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    damage(copy / name)
    with pytest.raises(UserError, match=why):
        open_checkpoint(str(copy))


def test_an_exit_s_head_is_found_by_the_block_it_stands_behind(run: tuple[Path, Experiment]) -> None:
    folder, experiment = run
    checkpoint = open_checkpoint(str(folder))
    shape = checkpoint.architecture.shape(
        classes=10, exits=(2,), pooling=None, variant="plain", sample_shape=experiment.dataset.sample_shape
    )
    found = import_state(checkpoint, shape, experiment.dataset.classes)
    assert found.loaded["exits.0.head.weight"][1] == ("exits.1.head.weight",)


def test_a_run_of_real_texts_keeps_its_tokenizer(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers", reason="needs the extra text")
    lines = [f"{text},{label}" for text, label in (("good day", "happy"), ("bad night", "sad"))] * 60
    (tmp_path / "reviews.csv").write_text("\n".join(["text,label", *lines]))
    data = {"name": str(tmp_path / "reviews.csv"), "tokens": 8, "vocabulary": 60, "partition": {"kind": "iid"}}
    experiment = ran(tmp_path / "run", data=data, model={"dim": 16, "blocks": 2, "heads": 2, "hidden": 16})
    model = open_model(tmp_path / "run")
    assert model.tokenizer == experiment.dataset.tokenizer
    x = read_inputs(model, [str(tmp_path / "reviews.csv")]).x
    known = {tuple(row) for row in np.asarray(experiment.dataset.train.x).tolist()}
    assert {tuple(row) for row in x.tolist()} == known
