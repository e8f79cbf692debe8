"""What comes in as a model of another library goes out as one again, and says the same there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import huggingface as hf
import pytest
import torch
from finished_runs import facts_of, finished_run
from read_models import CLASSES, shape_of, timm_state

from cosp.checkpoints import import_state, open_checkpoint
from cosp.checkpoints.own import read_facts
from cosp.export import write

transformers = pytest.importorskip("transformers", reason="needs the package transformers, of the extra dev")


def run_from(source: Path, folder: Path, family: str) -> Path:
    """A run that ended with the model it began with: one exit, so that every parameter is the checkpoint's."""
    checkpoint = open_checkpoint(str(source))
    shape = shape_of(checkpoint, family, exits=(2,))
    state = import_state(checkpoint, shape, CLASSES).state({})
    return finished_run(folder, facts_of(shape, classes=CLASSES, likeness=checkpoint.likeness), state)


def logits(folder: Path, family: str) -> torch.Tensor:
    kind = "ImageClassification" if family in hf.IMAGES else "SequenceClassification"
    model = getattr(transformers, f"AutoModelFor{kind}").from_pretrained(folder).eval()
    with torch.no_grad():
        found: torch.Tensor = model(**hf.inputs(family, hf.samples(family, 256))).logits
    return found


@pytest.mark.parametrize("family", hf.FAMILIES)
def test_a_family_s_classifier_is_one_again(tmp_path: Path, family: str) -> None:
    source = hf.saved(hf.classifier(family), tmp_path / "in")
    run = run_from(source, tmp_path / "run", family)
    found = write.export(run, tmp_path / "out", kind="hf")
    assert [line.split(":")[0] for line in found.checks] == ["read back by cosp", "transformers"]
    assert float((logits(tmp_path / "out", family) - logits(source, family)).abs().max()) <= 1e-5
    assert read_facts(run / "model" / "cosp.json").likeness == read_facts(tmp_path / "out" / "cosp.json").likeness


@pytest.mark.parametrize("kind", ["hf", "onnx", "torch"])
def test_a_timm_model_leaves_as_a_vit(tmp_path: Path, kind: Any) -> None:
    if kind == "onnx":
        pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    theirs = hf.classifier("vit", hidden_size=128, intermediate_size=48, layer_norm_eps=1e-6)
    torch.save(timm_state(theirs), tmp_path / "vit.pth")
    found = write.export(run_from(tmp_path / "vit.pth", tmp_path / "run", "vit"), tmp_path / "out", kind=kind)
    assert found.checks
    if kind == "hf":
        with torch.no_grad():
            wanted = theirs(**hf.inputs("vit", hf.samples("vit", 256))).logits
        assert float((logits(tmp_path / "out", "vit") - wanted).abs().max()) <= 1e-5
        assert transformers.AutoConfig.from_pretrained(tmp_path / "out").layer_norm_eps == 1e-6


@pytest.mark.parametrize("kind", ["onnx", "torch"])
def test_deit_leaves_as_a_graph(tmp_path: Path, kind: Any) -> None:
    if kind == "onnx":
        pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    source = hf.saved(hf.classifier("deit"), tmp_path / "in")
    assert write.export(run_from(source, tmp_path / "run", "deit"), tmp_path / "out", kind=kind).checks
