"""Which files are read, and what is said of those that are not."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface as hf
import pytest
import torch
from read_models import imported, shape_of, timm_state
from safetensors.torch import load_file, save_file

from cosp.checkpoints import import_state, open_checkpoint
from cosp.checkpoints.table import rows
from cosp.errors import ConfigError


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    return hf.saved(hf.classifier("bert"), tmp_path / "bert")


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def change(folder: Path, by: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    state = tensors(folder)
    by(state)
    save_file(state, folder / "model.safetensors")


def configure(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def refused(folder: Path, family: str = "bert", **changes: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        imported(folder, family, **changes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def same_state(folder: Path, other: Path, family: str = "bert") -> bool:
    first, second = (imported(one, family)[1].state_dict() for one in (folder, other))
    return all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_torchs_own_file_holds_the_same(bert: Path, tmp_path: Path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text((bert / "config.json").read_text())
    torch.save(tensors(bert), other / "pytorch_model.bin")
    assert same_state(bert, other)


def test_a_model_in_several_files_is_joined(bert: Path, tmp_path: Path):
    state, other = tensors(bert), tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text((bert / "config.json").read_text())
    where = {name: f"model-{i % 2}.safetensors" for i, name in enumerate(sorted(state))}
    for file in set(where.values()):
        save_file({name: state[name] for name in where if where[name] == file}, other / file)
    index = other / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": where}))
    assert same_state(bert, other)
    index.write_text(json.dumps({"weight_map": dict.fromkeys(where, "../model.safetensors")}))
    assert "is no file of tensors beside it" in refused(other)


def test_half_precision_and_names_of_old_are_read(bert: Path, tmp_path: Path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text((bert / "config.json").read_text())
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    state = {name: tensor.half() for name, tensor in tensors(bert).items()}
    for new, was in old.items():
        state = {name.replace(new, was): tensor for name, tensor in state.items()}
    save_file(state, other / "model.safetensors")
    first, second = (imported(one, "bert")[1].state_dict() for one in (bert, other))
    assert all(torch.allclose(first[name], second[name], atol=1e-3) for name in first)


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("sprung",)


def test_code_in_a_file_is_never_run(bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (bert / "model.safetensors").unlink()
    for write in (lambda path: torch.save({"a": Trap()}, path), lambda path: path.write_bytes(pickle.dumps(Trap()))):
        write(bert / "pytorch_model.bin")
        said = refused(bert)
        assert "holds Python code beside tensors, which is never run" in said
        assert str(bert / "pytorch_model.bin") in said
    assert not (tmp_path / "sprung").exists()


def test_a_family_that_is_not_known_is_named(bert: Path):
    configure(bert, model_type="deberta")
    assert "unknown family 'deberta'; known: vit, deit, bert, roberta, distilbert; did you mean 'bert'?" in refused(
        bert
    )


def test_a_missing_tensor_is_named(bert: Path):
    change(bert, lambda state: state.pop("bert.encoder.layer.1.output.dense.bias"))
    assert "bert.encoder.layer.1.output.dense.bias is missing" in refused(bert)


def test_a_tensor_that_does_not_fit_is_named_with_both_shapes(bert: Path):
    change(bert, lambda state: state.update({"bert.encoder.layer.0.intermediate.dense.weight": torch.ones(24, 15)}))
    said = refused(bert)
    assert (
        "bert.encoder.layer.0.intermediate.dense.weight has shape (24, 15), the model of these data needs (24, 16)"
        in said
    )


def test_images_of_other_channels_do_not_fit(tmp_path: Path):
    folder = hf.saved(hf.classifier("vit", num_channels=3), tmp_path)
    said = refused(folder, "vit")
    assert "projection.weight has shape (16, 3, 4, 4), the model of these data needs (16, 1, 4, 4)" in said


def test_a_tensor_of_the_trunk_that_has_no_place_is_refused(bert: Path):
    configure(bert, num_hidden_layers=1)
    assert "bert.encoder.layer.1.attention.output.LayerNorm.bias is no part of a bert" in refused(bert, exits=(1,))


def test_a_timm_model_with_parts_of_its_own_is_refused(tmp_path: Path):
    theirs = hf.classifier("vit", hidden_size=128, intermediate_size=48)
    save_file({**timm_state(theirs), "blocks.0.ls1.gamma": torch.ones(128)}, tmp_path / "vit.safetensors")
    assert "blocks.0.ls1.gamma is no part of a timm" in refused(tmp_path / "vit.safetensors", "vit")


def test_a_file_alone_must_be_timms(bert: Path):
    assert "is no state dict of a timm ViT" in refused(bert / "model.safetensors")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hidden_act": "relu"}, "hidden_act: 'relu' is no activation that cosp knows: gelu"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type: must be absolute"),
        ({"is_decoder": True}, "is_decoder: must be false"),
        ({"num_hidden_layers": "two"}, "blocks must be a count, got 'two'"),
    ],
)
def test_settings_that_mean_another_computation_are_refused(bert: Path, changes: dict[str, Any], said: str):
    configure(bert, **changes)
    assert said in refused(bert)


def test_a_setting_that_is_missing_is_named(bert: Path):
    path = bert / "config.json"
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "hidden_size"}))
    assert "config.json: hidden_size is missing, which a bert has" in refused(bert)


def test_damaged_files_are_named(bert: Path, tmp_path: Path):
    change(bert, lambda state: state["bert.pooler.dense.bias"].fill_(float("nan")))
    assert "bert.pooler.dense.bias holds NaN or infinity" in refused(bert)
    (bert / "model.safetensors").write_bytes(b"\x10" * 100)
    assert "model.safetensors: cannot be read" in refused(bert)
    (bert / "model.safetensors").unlink()
    assert "holds no weights" in refused(bert)
    (bert / "config.json").write_text("{")
    assert "config.json: cannot be read" in refused(bert)


def test_what_is_neither_here_nor_on_the_hub_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConfigError, match="there is no .*/nowhere; give a folder"):
        open_checkpoint(str(tmp_path / "nowhere"))
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ConfigError, match="is no folder, and no file of .safetensors"):
        open_checkpoint(str(tmp_path / "notes.txt"))


def test_texts_too_long_or_of_other_words_are_refused(bert: Path):
    checkpoint = open_checkpoint(str(bert))
    with pytest.raises(ConfigError, match="texts have 17 words, the model at most 16"):
        shape_of(checkpoint, "bert", length=17)
    with pytest.raises(ConfigError, match=r"the data have word 49, the model knows 0\.\.39"):
        checkpoint.architecture.shape(
            classes=3, exits=(2,), pooling=None, variant="plain", sample_shape=(5,), vocabulary=50
        )
    with pytest.raises(ConfigError, match="the model reads texts, the data are none"):
        shape_of(checkpoint, "vit")


def test_a_head_of_other_classes_is_left_out(bert: Path):
    found, model = imported(bert, "bert", classes=5)
    assert found.left_out == ("classifier.bias", "classifier.weight")
    assert "exits.1.head.weight" in found.drawn
    assert model(hf.samples("bert"))[-1].shape == (5, 5)


def test_a_head_of_the_same_classes_in_another_order_follows_them(bert: Path):
    configure(bert, id2label={"0": "c", "1": "a", "2": "b"})
    checkpoint = open_checkpoint(str(bert))
    shape = shape_of(checkpoint, "bert")
    found = import_state(checkpoint, shape, ("a", "b", "c"))
    head = tensors(bert)["classifier.weight"]
    assert found.rows == (1, 2, 0)
    assert torch.equal(found.state({})["exits.1.head.weight"], head[[1, 2, 0]])


def test_a_body_alone_has_its_pooler_and_no_head(tmp_path: Path):
    folder = hf.saved(hf.classifier("bert").bert, tmp_path)
    found, _ = imported(folder, "bert")
    assert set(found.drawn) == {f"exits.{i}.head.{part}" for i in (0, 1) for part in ("weight", "bias")}


@pytest.mark.parametrize("said", ['{"pooling_mode_mean_tokens": true}', '{"pooling_mode": "mean"}'])
def test_a_folder_of_sentence_transformers_says_how_it_is_read(bert: Path, said: str):
    assert open_checkpoint(str(bert)).architecture.pooling == "class"
    (bert / "1_Pooling").mkdir()
    (bert / "1_Pooling" / "config.json").write_text(said)
    found, model = imported(bert, "bert")
    assert (found.shape.pooling, found.shape.trunk.pooler) == ("mean", "none")
    assert found.left_out == ("bert.pooler.dense.bias", "bert.pooler.dense.weight")
    assert len(model(hf.samples("bert"))) == 2


@pytest.mark.parametrize(("activation", "loaded"), [("linear.Identity", True), ("activation.Tanh", False)])
def test_a_linear_layer_behind_the_mean_is_the_head(bert: Path, activation: str, loaded: bool):
    change(bert, lambda state: [state.pop(f"classifier.{part}") for part in ("weight", "bias")])
    for folder, config in (
        ("1_Pooling", {"pooling_mode": "mean"}),
        ("2_Dense", {"activation_function": f"torch.nn.modules.{activation}"}),
    ):
        (bert / folder).mkdir()
        (bert / folder / "config.json").write_text(json.dumps(config))
    layer = {"linear.weight": torch.randn(3, 16), "linear.bias": torch.randn(3)}
    save_file(layer, bert / "2_Dense" / "model.safetensors")
    found, model = imported(bert, "bert")
    assert ("exits.1.head.weight" in found.loaded) == loaded
    assert torch.equal(model.exits[1].head.weight, layer["linear.weight"]) == loaded


def test_the_table_accounts_for_every_tensor(bert: Path):
    found, _ = imported(bert, "bert", classes=5)
    assert rows(found) == [
        ("loaded", "30", "4,976", "inputs, positions, embedding_norm, blocks, pooler after block 2"),
        ("copied", "2", "272", "pooler after block 1"),
        ("left out", "2", "51", "classifier.bias, classifier.weight"),
        ("drawn anew", "4", "170", "head after block 1, 2"),
        ("changed", "", "", "positions: the first 7 of 16"),
        ("changed", "", "", "segment 0 added to the positions"),
    ]
    assert rows(found, fitted=(2,))[3:5] == [
        ("drawn anew", "2", "85", "head after block 1"),
        ("to be fitted", "2", "85", "head after block 2"),
    ]
