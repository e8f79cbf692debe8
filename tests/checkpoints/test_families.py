"""What is read from another library's files computes what that library computes with them."""

from __future__ import annotations

from pathlib import Path

import huggingface as hf
import pytest
import torch
from read_models import imported, timm_state
from safetensors.torch import load_file

CLOSE = 1e-5


@pytest.mark.parametrize("family", hf.FAMILIES)
@torch.no_grad()
def test_the_deepest_exits_logits_are_theirs(tmp_path: Path, family: str):
    theirs = hf.classifier(family)
    found, ours = imported(hf.saved(theirs, tmp_path), family)
    x = hf.samples(family)
    expected = theirs(**hf.inputs(family, x)).logits
    assert float((ours(x)[-1] - expected).abs().max()) <= CLOSE
    assert float(expected.std()) > 0.1
    assert (found.left_out, found.drawn) == ((), ("exits.0.head.weight", "exits.0.head.bias"))


@pytest.mark.parametrize("family", hf.FAMILIES)
@torch.no_grad()
def test_every_block_computes_what_theirs_does(tmp_path: Path, family: str):
    theirs = hf.classifier(family)
    _, ours = imported(hf.saved(theirs, tmp_path), family)
    x = hf.samples(family)
    expected = theirs(**hf.inputs(family, x), output_hidden_states=True).hidden_states
    there = ours.there(x)
    read = torch.ones(expected[0].shape[:2], dtype=torch.bool) if there is None else there
    stream = ours.embed(x)
    attended = None if there is None else torch.zeros(there.shape).masked_fill(~there, -torch.inf)[:, None, None]
    for hidden, block in zip(expected, [None, *ours.blocks], strict=True):
        stream = stream if block is None else block(stream, None, attended)
        assert float((stream - hidden)[read].abs().max()) <= CLOSE


@pytest.mark.parametrize("act", ["gelu_new", "gelu_pytorch_tanh"])
@torch.no_grad()
def test_the_gelu_is_theirs(tmp_path: Path, act: str):
    theirs = hf.classifier("bert", hidden_act=act)
    found, ours = imported(hf.saved(theirs, tmp_path), "bert")
    x = hf.samples("bert")
    assert found.shape.trunk.gelu == "tanh"
    assert float((ours(x)[-1] - theirs(**hf.inputs("bert", x)).logits).abs().max()) <= CLOSE


@pytest.mark.parametrize("family", hf.IMAGES)
@pytest.mark.parametrize("image", [4, 12, 20])
@torch.no_grad()
def test_positions_of_another_image_size_are_interpolated_as_theirs(tmp_path: Path, family: str, image: int):
    theirs = hf.classifier(family)
    found, ours = imported(hf.saved(theirs, tmp_path), family, image=image)
    x = hf.samples(family, image=image)
    expected = theirs(pixel_values=x, interpolate_pos_encoding=True).logits
    assert float((ours(x)[-1] - expected).abs().max()) <= CLOSE
    assert found.changed == (f"positions interpolated from 2 x 2 patches to {image // 4} x {image // 4}",)


@torch.no_grad()
def test_a_mean_counts_no_padding(tmp_path: Path):
    """As sentence-transformers averages the words of a BERT."""
    theirs = hf.classifier("bert")
    _, ours = imported(hf.saved(theirs, tmp_path), "bert", pooling="mean", exits=(2,))
    x = hf.samples("bert")
    hidden = theirs.bert(**hf.inputs("bert", x)).last_hidden_state
    there = (x != 0).float()[:, :, None]
    mean = (hidden * there).sum(1) / there.sum(1)
    assert float((ours(x)[-1] - theirs.classifier(mean)).abs().max()) <= CLOSE


@torch.no_grad()
def test_what_follows_a_texts_padding_changes_nothing(tmp_path: Path):
    _, ours = imported(hf.saved(hf.classifier("roberta"), tmp_path), "roberta")
    long = hf.samples("roberta")[1:2]
    _, shorter = imported(tmp_path, "roberta", length=hf.LENGTH - 1)
    assert int(long[0, -1]) == hf.PADDING["roberta"]
    assert float((ours(long)[-1] - shorter(long[:, :-1])[-1]).abs().max()) <= CLOSE


@pytest.mark.parametrize("family", hf.FAMILIES)
def test_a_familys_names_lead_back_to_its_own_tensors(tmp_path: Path, family: str):
    found, ours = imported(hf.saved(hf.classifier(family), tmp_path), family)
    theirs, state = load_file(tmp_path / "model.safetensors"), ours.state_dict()
    back = {
        name: tensor
        for entry, names in found.loaded.values()
        for name, tensor in zip(names, entry.conversion.outward(state[entry.ours], found.shape), strict=True)
    }
    assert set(back) == set(theirs)
    for name, tensor in back.items():
        if "position_embeddings" in name and family in hf.TEXTS:  # cut to the texts, and the segment is in it
            assert tensor.shape[1:] == theirs[name].shape[1:]
        elif "token_type" in name:
            assert not tensor.any()
        else:
            assert torch.equal(tensor, theirs[name]), name


@torch.no_grad()
def test_timms_names_lead_to_the_same_model(tmp_path: Path):
    theirs = hf.classifier("vit", hidden_size=128, intermediate_size=48, layer_norm_eps=1e-6)
    torch.save({"model": timm_state(theirs)}, tmp_path / "vit.pth")
    found, ours = imported(tmp_path / "vit.pth", "vit")
    x = hf.samples("vit")
    assert float((ours(x)[-1] - theirs(pixel_values=x).logits).abs().max()) <= CLOSE
    assert (found.checkpoint.architecture.family, found.left_out) == ("timm", ())
