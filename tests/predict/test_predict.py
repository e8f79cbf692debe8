"""The same class and probability from a run, its exports and the model itself, however inputs are given."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from finished_runs import facts_of, finished_run
from PIL import Image
from small_models import SMALL, model_with, random_state
from typer.testing import CliRunner

from cosp.cli.main import app
from cosp.errors import UserError
from cosp.export import write
from cosp.models import SeriesShape, TextShape
from cosp.predict.answers import answers, leaving, softmax
from cosp.predict.inputs import read_inputs
from cosp.predict.opened import Opened, open_model

CLASS = dataclasses.replace(SMALL, pooling="class")
SERIES = SeriesShape(steps=4, patch=2, channels=2, classes=3, dim=8, blocks=2, heads=2, hidden=6, exits=(1, 2))
TEXT = TextShape(vocabulary=20, length=7, classes=3, dim=8, blocks=2, heads=2, hidden=6, exits=(1, 2), padding=0)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return finished_run(tmp_path / "run", facts_of(CLASS), random_state(CLASS))


def picture(path: Path, value: int) -> Path:
    path.parent.mkdir(exist_ok=True)
    pixels = np.arange(16, dtype=np.uint8).reshape(4, 4) * 8 + value
    Image.fromarray(pixels).save(path)
    return path


def by_hand(path: Path, exit: int) -> np.ndarray:
    """Pixels of 8 bits in the data's units, where white is 16; mean 3, deviation 2."""
    pixels = np.asarray(Image.open(path), np.float32) * np.float32(16 / 255)
    with torch.no_grad():
        z = model_with(CLASS, random_state(CLASS))(torch.from_numpy((pixels - 3) / 2)[None, None])
    return softmax(z[exit].numpy())[0]


def test_a_picture_is_read_in_the_units_of_the_training_data(run: Path, tmp_path: Path) -> None:
    file = picture(tmp_path / "pictures" / "a.png", 5)
    model = open_model(run)
    found = answers(model, read_inputs(model, [str(file)]).x)
    np.testing.assert_allclose(found.probabilities[0], by_hand(file, 2), rtol=1e-5)
    assert found.exits.tolist() == [3]
    found = answers(model, read_inputs(model, [str(file)]).x, after=1)
    np.testing.assert_allclose(found.probabilities[0], by_hand(file, 0), rtol=1e-5)


@pytest.mark.parametrize("kind", ["hf", "torch", "onnx"])
def test_an_export_predicts_what_the_run_predicts(run: Path, tmp_path: Path, kind: write.Kind) -> None:
    if kind == "onnx":
        pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    write.export(run, tmp_path / "out", kind=kind)
    for value in (0, 60, 120):
        picture(tmp_path / "pictures" / f"{value}.png", value)
    ours, theirs = open_model(run), open_model(tmp_path / "out")
    x = read_inputs(theirs, [str(tmp_path / "pictures")])
    assert [Path(name).name for name in x.names] == ["0.png", "120.png", "60.png"]
    np.testing.assert_allclose(answers(theirs, x.x).probabilities, answers(ours, x.x).probabilities, atol=1e-5)
    if kind == "torch":
        sure = [answers(model, x.x, confident=0.6) for model in (ours, theirs)]
        assert sure[0].exits.tolist() == sure[1].exits.tolist()


def test_who_is_sure_early_is_not_computed_further(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = open_model(run)
    assert model.module is not None
    x = np.zeros((1, *CLASS.sample_shape), np.float32)
    blocks: list[int] = []
    for i, block in enumerate(model.module.blocks):
        block.register_forward_hook(lambda *_, i=i: blocks.append(i))
    found = answers(model, x, confident=0.0)
    assert (found.exits.tolist(), blocks) == ([1], [0])
    blocks.clear()
    found = answers(model, x, confident=1.0)
    assert (found.exits.tolist(), blocks) == ([3], [0, 1, 2])


def test_the_first_sure_exit_or_the_last() -> None:
    p = np.array([[[0.9, 0.1], [0.6, 0.4]], [[0.5, 0.5], [0.05, 0.95]], [[0.5, 0.5], [0.5, 0.5]]])
    assert leaving(p, 0.9).tolist() == [0, 1]
    assert leaving(p, 0.96).tolist() == [2, 2]


def test_a_wrong_exit_is_one_line(run: Path) -> None:
    with pytest.raises(UserError, match="no exit behind block 9; exits of .* stand behind blocks 1, 2, 3"):
        open_model(run).last_exit(9)


def test_series_are_a_file_each(tmp_path: Path) -> None:
    model = open_model(finished_run(tmp_path / "run", facts_of(SERIES), random_state(SERIES)))
    (tmp_path / "a.csv").write_text("x,y\n1,2\n3,4\n5,6\n7,8\n")
    (tmp_path / "b.csv").write_text("1,1\n3,4\n5,6\n7,8\n")
    x = read_inputs(model, [str(tmp_path / "a.csv"), str(tmp_path / "b.csv")]).x
    np.testing.assert_allclose(x[0], (np.arange(1, 9).reshape(4, 2) - 3) / 2)
    assert x[1, 0].tolist() == [-1, -1]
    (tmp_path / "c.csv").write_text("1,1\n3,4\n")
    with pytest.raises(UserError, match=r"samples are of shape \(2, 2\), the model reads series of \(4, 2\)"):
        read_inputs(model, [str(tmp_path / "c.csv")])


def text_model(tmp_path: Path, *, words: bool) -> Opened:
    pytest.importorskip("tokenizers", reason="needs the extra text")
    from cosp.data.wordpiece import train_tokenizer

    made = train_tokenizer(["good day", "bad night"] * 20, vocabulary=60, tokens=7, pairs=False)
    shape = dataclasses.replace(TEXT, vocabulary=made.words, padding=made.padding)
    facts = facts_of(shape)
    facts = dataclasses.replace(facts, reading=dataclasses.replace(facts.reading, words=words))
    run = finished_run(tmp_path / "run", facts, random_state(shape))
    if words:
        (run / "model" / "tokenizer.json").write_text(made.text)
    return open_model(run)


def test_texts_lines_and_tables_are_the_same_texts(tmp_path: Path) -> None:
    model = text_model(tmp_path, words=True)
    (tmp_path / "lines.txt").write_text("good day\n\nbad night\n")
    (tmp_path / "table.csv").write_text("body,label\ngood day,1\nbad night,0\n")
    spoken = read_inputs(model, ["good day", "bad night"])
    lines = read_inputs(model, [str(tmp_path / "lines.txt")])
    table = read_inputs(model, [str(tmp_path / "table.csv")], text="body")
    assert spoken.names == lines.names == table.names == ("good day", "bad night")
    assert spoken.x.tolist() == lines.x.tolist() == table.x.tolist()
    with pytest.raises(UserError, match="has no column 'text'; it has 'body', 'label'"):
        read_inputs(model, [str(tmp_path / "table.csv")])


def test_text_for_a_model_of_word_numbers_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no tokenizer"):
        read_inputs(text_model(tmp_path, words=False), ["good day"])


def test_the_command_says_class_and_probability(run: Path, tmp_path: Path) -> None:
    file = picture(tmp_path / "pictures" / "a.png", 5)
    told = CliRunner().invoke(app, ["predict", str(run), str(file), "--json"])
    assert told.exit_code == 0, told.output
    (row,) = json.loads(told.output)
    wanted = by_hand(file, 2)
    assert row["class"] == f"class {int(wanted.argmax())}"
    assert row["probability"] == pytest.approx(float(wanted.max()), rel=1e-4)
    assert row["exit"] == 3
    shown = CliRunner().invoke(app, ["predict", str(run), str(file)]).output
    assert f"class {int(wanted.argmax())}" in shown
    assert f"{wanted.max():.4f}" in shown
