"""What is exported computes what the run's model computes, to 1e-5: the command checks it, and so do these."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from finished_runs import facts_of, finished_run
from small_models import BERT_TRUNK, SMALL, model_with, random_state, same_units

from cosp.checkpoints import open_checkpoint
from cosp.checkpoints.own import Likeness, read_facts
from cosp.errors import UserError
from cosp.export import onnx, write
from cosp.export.check import ExportDiffers, random_samples
from cosp.export.chosen import choose
from cosp.models import SeriesShape, TextShape, TransformerShape
from cosp.submodel.plan import SubmodelPlan
from cosp.submodel.slicing import State

TEXT = TextShape(vocabulary=20, length=7, classes=3, dim=8, blocks=3, heads=2, hidden=6, exits=(1, 2, 3), padding=0)
SERIES = SeriesShape(steps=6, patch=2, channels=2, classes=3, dim=8, blocks=3, heads=2, hidden=6, exits=(1, 2, 3))
CLASS = dataclasses.replace(SMALL, pooling="class")
NARROW = same_units(2, heads=(1,), attention_rows=(0, 2, 5), hidden=(1, 2, 5), ffn_rows=(3, 4))
WORDS: dict[str, Any] = {"bert": ("tanh", 0, 2), "roberta": ("tanh", 1, 1), "distilbert": ("relu", 0, 0)}

SLOW = pytest.mark.slow


def words(family: str) -> tuple[TransformerShape, Likeness]:
    pooler, padding, segments = WORDS[family]
    trunk = dataclasses.replace(BERT_TRUNK, pooler=pooler)
    shape = dataclasses.replace(TEXT, pooling="class", trunk=trunk, padding=padding)
    first = 2 if family == "roberta" else 0
    return shape, Likeness(family=family, first=first, segments=segments)


def run_of(tmp_path: Path, shape: TransformerShape, likeness: Likeness | None = None) -> tuple[Path, State]:
    state = random_state(shape)
    return finished_run(tmp_path / "run", facts_of(shape, likeness=likeness), state, NARROW, None), state


def logits(shape: TransformerShape, state: State, plan: SubmodelPlan | None = None) -> list[np.ndarray]:
    with torch.no_grad():
        return [z.numpy() for z in model_with(shape, state, plan)(torch.from_numpy(random_samples(shape, 5)))]


@pytest.mark.parametrize(
    "shape",
    [pytest.param(SMALL, id="images"), pytest.param(TEXT, id="texts"), pytest.param(SERIES, id="series", marks=SLOW)],
)
def test_onnx_of_all_exits_says_what_the_model_says(tmp_path: Path, shape: TransformerShape) -> None:
    pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    run, state = run_of(tmp_path, shape)
    found = write.export(run, tmp_path / "out", kind="onnx")
    assert "random inputs" in found.checks[0]
    assert found.files == ("README.md", "cosp.json", "model.onnx")
    session = onnx.session(tmp_path / "out" / "model.onnx")
    for wanted, got in zip(logits(shape, state), onnx.run(session, random_samples(shape, 5)), strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-5)
    assert onnx.facts_of(session, tmp_path) == read_facts(tmp_path / "out" / "cosp.json")


def test_a_board_s_onnx_is_physically_narrow(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    import onnx as library

    run, state = run_of(tmp_path, SMALL)
    write.export(run, tmp_path / "out", kind="onnx", board=0, after=2, batch=2)
    graph = library.load(tmp_path / "out" / "model.onnx").graph
    assert [value.name for value in graph.output] == ["exit_2"]
    assert graph.input[0].type.tensor_type.shape.dim[0].dim_value == 2
    held = sum(int(np.prod(tensor.dims)) for tensor in graph.initializer if len(tensor.dims) >= 2)
    whole = sum(t.numel() for name, t in state.items() if t.dim() >= 2 and not name.startswith("blocks.2"))
    assert held < 0.75 * whole
    session = onnx.session(tmp_path / "out" / "model.onnx")
    got = onnx.run(session, random_samples(SMALL, 5))  # 5 samples through batches of 2
    np.testing.assert_allclose(got[0], logits(SMALL, state, NARROW)[1], atol=1e-5)


PLAIN_TORCH = """
import sys, torch
sys.modules["cosp"] = None  # as where it is not installed
folder, samples = sys.argv[1], torch.load(sys.argv[2])
models = torch.export.load(f"{folder}/model.pt2").module(), torch.jit.load(f"{folder}/model.ts.pt")
torch.save([model(samples.clone()) for model in models], sys.argv[3])
"""


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param(SMALL, id="images"),
        pytest.param(TEXT, id="texts", marks=SLOW),
        pytest.param(SERIES, id="series", marks=SLOW),
    ],
)
def test_torch_runs_it_without_cosp(tmp_path: Path, shape: TransformerShape) -> None:
    run, state = run_of(tmp_path, shape)
    write.export(run, tmp_path / "out", kind="torch", board=0)
    samples = torch.from_numpy(random_samples(shape, 5))
    torch.save(samples.long() if shape is TEXT else samples, tmp_path / "x.pt")
    files = [str(tmp_path / name) for name in ("out", "x.pt", "z.pt")]
    plain = [sys.executable, "-W", "ignore", "-I", "-c", PLAIN_TORCH, *files]
    subprocess.run(plain, check=True, cwd=tmp_path)
    for found in torch.load(tmp_path / "z.pt"):
        for wanted, got in zip(logits(shape, state, NARROW), found, strict=True):
            np.testing.assert_allclose(got.numpy(), wanted, atol=1e-5)


@pytest.mark.parametrize("variant", ["adaptive", pytest.param("quantised", marks=SLOW)])
def test_torch_runs_the_blocks_of_every_method(tmp_path: Path, variant: str) -> None:
    run, _ = run_of(tmp_path, dataclasses.replace(SMALL, variant=variant))
    checks = write.export(run, tmp_path / "out", kind="torch").checks
    assert [line.split(":")[0] for line in checks] == ["torch", "TorchScript"]


@pytest.mark.parametrize("board", [None, 0])
@pytest.mark.parametrize("family", ["vit", *WORDS])
def test_transformers_says_what_the_model_says(tmp_path: Path, family: str, board: int | None) -> None:
    pytest.importorskip("transformers", reason="needs the package transformers")
    shape, likeness = (CLASS, None) if family == "vit" else words(family)
    run, _ = run_of(tmp_path, shape, likeness)
    found = write.export(run, tmp_path / "out", kind="hf", board=board, after=2)
    assert found.checks[0].startswith("read back by cosp: ")
    assert found.checks[1].startswith("transformers: ")


@pytest.mark.parametrize("board", [None, 0])
@pytest.mark.parametrize("family", WORDS)
def test_a_mean_of_words_is_a_folder_of_sentence_transformers(tmp_path: Path, family: str, board: int | None) -> None:
    pytest.importorskip("transformers", reason="needs the package transformers")
    shape, likeness = words(family)
    shape = dataclasses.replace(shape, pooling="mean", trunk=dataclasses.replace(shape.trunk, pooler="none"))
    run, _ = run_of(tmp_path, shape, likeness)
    found = write.export(run, tmp_path / "out", kind="hf", board=board, after=2)
    assert [line.split(":")[0] for line in found.checks] == ["read back by cosp", "transformers"]
    assert "2_Dense/model.safetensors" in found.files
    assert "`SentenceTransformer`" in found.signature
    assert open_checkpoint(str(tmp_path / "out")).architecture.pooling == "mean"


def test_without_transformers_the_folder_is_written_and_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)  # as where it is not installed
    run, _ = run_of(tmp_path, *words("roberta"))
    checks = write.export(run, tmp_path / "out", kind="hf").checks
    assert checks[0].startswith("read back by cosp: ")
    assert checks[1] == "not checked in transformers, which is not installed here"


def test_without_onnx_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    run, _ = run_of(tmp_path, SMALL)
    with pytest.raises(UserError, match=r"needs the package onnx: pip install 'cosp\[onnx\]'"):
        write.export(run, tmp_path / "out", kind="onnx")
    assert not (tmp_path / "out").exists()


def test_an_hf_folder_says_which_exits_and_classes_it_has(tmp_path: Path) -> None:
    run, _ = run_of(tmp_path, CLASS)
    write.export(run, tmp_path / "out", kind="hf", after=1, command="cosp export run")
    facts = read_facts(tmp_path / "out" / "cosp.json")
    assert (facts.exits, facts.shape.blocks) == ((1,), 1)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| 1 | 0.5000 | 0.2500 | 0.7500 |" in card
    assert "cosp export run" in card


@pytest.mark.parametrize(
    ("shape", "why"),
    [
        (SMALL, "reads its class token"),
        (TEXT, "normalises before each branch"),
        (dataclasses.replace(CLASS, variant="adaptive"), "adaptive blocks"),
        (SERIES, "reads series"),
    ],
)
def test_what_no_family_computes_is_one_line(tmp_path: Path, shape: Any, why: str) -> None:
    run, _ = run_of(tmp_path, shape)
    with pytest.raises(UserError, match=why) as error:
        write.export(run, tmp_path / "out", kind="hf")
    assert "--to onnx or --to torch" in str(error.value)
    assert not (tmp_path / "out").exists()


def test_wrong_exits_and_boards_are_one_line(tmp_path: Path) -> None:
    run, _ = run_of(tmp_path, SMALL)
    with pytest.raises(UserError, match="no exit behind block 4; exits stand behind blocks 1, 2, 3"):
        choose(run, after=4, board=None)
    with pytest.raises(UserError, match="behind block 3 of client 0's submodel; exits stand behind blocks 1, 2"):
        choose(run, after=3, board=0)
    with pytest.raises(UserError, match="--board 7: there is no such client; the run has 0..1"):
        choose(run, after=None, board=7)
    with pytest.raises(UserError, match="--board 1: nano has no submodel"):
        choose(run, after=None, board=1)
    with pytest.raises(UserError, match="holds no run"):
        choose(tmp_path, after=None, board=None)


def test_without_an_exit_it_ends_with_the_one_that_validation_chose(tmp_path: Path) -> None:
    state = random_state(SMALL)
    run = finished_run(tmp_path / "run", facts_of(SMALL, chosen_exit=2), state)
    assert choose(run, after=None, board=None).facts.exits == (1, 2)
    assert choose(run, after=None, board=None, one_exit=True).facts.exits == (2,)


def test_an_export_that_differs_is_not_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, _ = run_of(tmp_path, CLASS)
    monkeypatch.setattr(write.hf, "widened", lambda state, shape, chosen: {k: v + 0.1 for k, v in state.items()})
    with pytest.raises(ExportDiffers, match="do not use"):
        write.export(run, tmp_path / "out", kind="hf")
    assert list(tmp_path.iterdir()) == [run]


def test_a_full_folder_is_left_alone(tmp_path: Path) -> None:
    run, _ = run_of(tmp_path, SMALL)
    with pytest.raises(UserError, match="not empty"):
        write.export(run, run, kind="torch")
