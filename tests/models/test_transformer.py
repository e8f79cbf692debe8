from __future__ import annotations

import json
import math
from dataclasses import asdict, replace

import pytest
import torch
from hypothesis import given, settings
from small_models import (
    BERT,
    BERT_TRUNK,
    SMALL,
    VIT_B,
    model_with,
    plans,
    random_samples,
    random_state,
    same_units,
    shapes_and_plans,
)
from torch import Tensor, nn

from cosp.models import Adapters, SeriesShape, TextShape, TransformerShape, ViTShape, shape_from_json, shape_to_json
from cosp.models.block import add_rows
from cosp.models.transformer import Transformer, initialise
from cosp.submodel.plan import SubmodelPlan
from cosp.submodel.shape import POOLINGS, VARIANTS, layout_of, quarter_exits
from cosp.submodel.slicing import extract, grid, kept_indices
from cosp.trainer.importance import plan_gates

TEXT = TextShape(vocabulary=9, length=5, classes=4, dim=12, blocks=3, heads=3, hidden=10, exits=(2, 3))
SERIES = SeriesShape(steps=6, patch=2, channels=3, classes=4, dim=12, blocks=3, heads=3, hidden=10, exits=(2, 3))
MIXED = ViTShape(image=6, patch=2, channels=2, classes=4, dim=12, blocks=4, heads=3, hidden=10, exits=(1, 2, 4))


def torch_encoder(shape: TransformerShape, model: Transformer) -> list[nn.TransformerEncoderLayer]:
    """PyTorch's own pre-norm encoder layers with the weights of ``model``."""
    layers = []
    for block in model.blocks:
        layer = nn.TransformerEncoderLayer(
            shape.dim, shape.heads, shape.hidden, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        pairs = {
            layer.self_attn.in_proj_weight: block.attention.qkv_weight.flatten(0, 1),
            layer.self_attn.in_proj_bias: block.attention.qkv_bias.flatten(),
            layer.self_attn.out_proj.weight: block.attention.out.weight,
            layer.self_attn.out_proj.bias: block.attention.out.bias,
            layer.linear1.weight: block.ffn.up.weight,
            layer.linear1.bias: block.ffn.up.bias,
            layer.linear2.weight: block.ffn.down.weight,
            layer.linear2.bias: block.ffn.down.bias,
            layer.norm1.weight: block.norm1.weight,
            layer.norm1.bias: block.norm1.bias,
            layer.norm2.weight: block.norm2.weight,
            layer.norm2.bias: block.norm2.bias,
        }
        for theirs, ours in pairs.items():
            theirs.data = ours.detach().clone()
        layers.append(layer)
    return layers


def patches_of(model: Transformer, images: Tensor) -> Tensor:
    """Patches as the textbook has them: by a convolution."""
    shape = model.shape
    kernel = model.inputs.weight.view(shape.dim, shape.channels, shape.patch, shape.patch)
    return nn.functional.conv2d(images, kernel, model.inputs.bias, stride=shape.patch).flatten(2).transpose(1, 2)


def words_of(model: Transformer, texts: Tensor) -> Tensor:
    """Words as a product: (batch, length, vocabulary) of zeros and ones with the table."""
    return nn.functional.one_hot(texts.long(), model.shape.vocabulary).float() @ model.inputs.weight


def stretches_of(model: Transformer, series: Tensor) -> Tensor:
    """Patches along time as a convolution over (batch, channels, steps) makes them."""
    shape = model.shape
    kernel = model.inputs.weight.view(shape.dim, shape.patch, shape.channels).transpose(1, 2)
    found = nn.functional.conv1d(series.transpose(1, 2), kernel, model.inputs.bias, stride=shape.patch)
    return found.transpose(1, 2)


INPUTS = [(SMALL, patches_of), (MIXED, patches_of), (TEXT, words_of), (SERIES, stretches_of)]


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize(("shape", "tokens_of"), INPUTS)
def test_the_whole_model_is_torchs_encoder_behind_the_textbooks_tokens(shape, tokens_of, pooling):
    shape = replace(shape, pooling=pooling)
    model = model_with(shape, random_state(shape))
    samples = random_samples(shape, 3)
    x = torch.cat([model.class_token.expand(3, 1, -1), tokens_of(model, samples)], dim=1) + model.positions
    expected = []
    for i, layer in enumerate(torch_encoder(shape, model), start=1):
        x = layer(x)
        if i in shape.exits:
            head = model.exits[len(expected)]
            read = x.mean(dim=1) if pooling == "mean" else x[:, 0]
            normed = nn.functional.layer_norm(read, (shape.dim,), head.norm.weight, head.norm.bias)
            expected.append(nn.functional.linear(normed, head.head.weight, head.head.bias))
    found = model(samples)
    assert len(found) == len(shape.exits)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def masked_and_extracted(shape: TransformerShape, plan: SubmodelPlan) -> tuple[Transformer, Transformer]:
    state = random_state(shape, dtype=torch.float64)
    return model_with(shape, state, shape.full_plan(plan.depth)), model_with(shape, state, plan)


def loss_of(logits: list[Tensor]) -> Tensor:
    return torch.stack([(z * torch.arange(1, z.shape[1] + 1)).square().mean() for z in logits]).sum()


@settings(max_examples=40)
@given(shapes_and_plans())
def test_a_masked_model_computes_what_its_extracted_submodel_does(shape_and_plan):
    shape, plan = shape_and_plan
    masked, extracted = masked_and_extracted(shape, plan)
    images = random_samples(shape, 2, dtype=torch.float64)
    for ours, theirs in zip(masked(images, plan_gates(shape, plan)), extracted(images), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@settings(max_examples=40)
@given(shapes_and_plans())
def test_a_masked_models_gradient_is_the_submodels_and_zero_at_removed_units(shape_and_plan):
    shape, plan = shape_and_plan
    layout = layout_of(shape)
    masked, extracted = masked_and_extracted(shape, plan)
    images = random_samples(shape, 2, dtype=torch.float64)
    loss_of(masked(images, plan_gates(shape, plan))).backward()
    loss_of(extracted(images)).backward()
    whole = {name: parameter.grad for name, parameter in masked.named_parameters()}
    kept = extract(whole, {name: layout[name] for name in whole}, plan)
    for name, parameter in extracted.named_parameters():
        torch.testing.assert_close(kept[name], parameter.grad, rtol=1e-9, atol=1e-9)
        removed = torch.ones_like(whole[name])
        removed[grid(kept_indices(layout[name], plan), layout[name].shape)] = 0
        assert not (whole[name] * removed).any()


@settings(max_examples=20)
@given(plans(SMALL))
def test_a_submodel_has_the_exits_within_its_depth(plan):
    logits = Transformer(SMALL, plan)(random_samples(SMALL))
    assert [tuple(z.shape) for z in logits] == [(2, 3)] * plan.depth


def test_a_plan_before_the_first_exit_is_refused():
    late = ViTShape(image=4, patch=2, channels=1, classes=3, dim=8, blocks=2, heads=2, hidden=6, exits=(2,))
    with pytest.raises(ValueError, match="before the first exit 2"):
        Transformer(late, late.full_plan(1))


def test_a_narrow_branch_is_added_at_its_rows():
    x, branch = torch.zeros(1, 1, 4), torch.tensor([[[1.0, 2.0]]])
    assert add_rows(x, branch, torch.tensor([1, 3])).tolist() == [[[0.0, 1.0, 0.0, 2.0]]]
    assert not x.any()


def test_a_narrow_submodel_runs_in_mixed_precision():
    plan = same_units(2, heads=(1,), attention_rows=(0, 3), hidden=(2,), ffn_rows=(5, 7))
    model = model_with(SMALL, random_state(SMALL), plan)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = model(random_samples(SMALL))
    for half, full in zip(mixed, model(random_samples(SMALL)), strict=True):
        torch.testing.assert_close(half.float(), full, rtol=0.1, atol=0.1)


def test_initial_weights_are_clipped_normal_and_repeat_with_their_generator():
    shape = ViTShape(image=8, patch=2, channels=3, classes=5, dim=64, blocks=1, heads=4, hidden=128, exits=(1,))
    first, second = Transformer(shape), Transformer(shape)
    for model in (first, second):
        initialise(model, torch.Generator().manual_seed(7))
    values = dict(first.named_parameters())
    assert all(torch.equal(parameter, values[name]) for name, parameter in second.named_parameters())
    values = {name: parameter.detach() for name, parameter in values.items()}
    down = values["blocks.0.ffn.down.weight"]
    deviation = 0.5 * 128**-0.5
    assert float(down.std()) == pytest.approx(0.96 * deviation, rel=0.03)  # clipping takes 4 %
    assert float(down.abs().max()) <= 2 * deviation
    assert not values["blocks.0.attention.qkv_bias"].any()
    assert (values["blocks.0.norm1.weight"] == 1).all()
    assert float(values["positions"].std()) == pytest.approx(0.5, rel=0.2)
    assert float(values["class_token"].std()) == pytest.approx(0.02, rel=0.4)


def test_the_paper_puts_exits_after_every_quarter():
    assert [quarter_exits(blocks) for blocks in (12, 4, 6, 3, 1)] == [
        (3, 6, 9, 12),
        (1, 2, 3, 4),
        (1, 3, 4, 6),
        (1, 2, 3),
        (1,),
    ]


def test_the_shape_of_vit_b():
    assert (VIT_B.head_dim, VIT_B.tokens, VIT_B.patch_entries) == (64, 197, 768)
    assert VIT_B.exits_within(7) == (3, 6)


def test_a_text_model_has_berts_table_and_blocks():
    layout = layout_of(BERT)
    assert math.prod(layout["inputs.weight"].shape) == BERT.table == 30_522 * 768
    blocks = sum(math.prod(entry.shape) for entry in layout.values() if entry.block is not None)
    assert blocks == 85_054_464  # of Devlin et al.'s 110 M
    assert BERT.tokens == 129


def test_words_start_as_strong_as_patches_and_positions_weak():
    model = Transformer(replace(TEXT, vocabulary=100, dim=48))
    initialise(model, torch.Generator().manual_seed(0))
    assert float(model.inputs.weight.detach().std()) == pytest.approx(0.5, rel=0.05)
    assert float(model.positions.detach().std()) == pytest.approx(0.02, rel=0.3)


PADDED = replace(TEXT, padding=0, trunk=BERT_TRUNK)


@pytest.mark.parametrize("shape", [SMALL, TEXT, SERIES, PADDED])
def test_a_shape_comes_back_from_json(shape):
    assert shape_from_json(json.loads(json.dumps(asdict(shape)))) == shape
    assert shape_from_json(json.loads(json.dumps(shape_to_json(shape)))) == shape


def test_the_json_of_a_fresh_shape_is_what_older_boards_know():
    assert set(asdict(SMALL)) - set(shape_to_json(SMALL)) == {"trunk", "adapters"}
    assert set(asdict(TEXT)) - set(shape_to_json(TEXT)) == {"padding", "trunk", "unknown", "adapters"}
    assert set(asdict(PADDED)) - set(shape_to_json(PADDED)) == {"unknown", "adapters"}
    own = replace(PADDED, unknown=1, adapters=Adapters(rank=2))
    assert set(asdict(own)) == set(shape_to_json(own))


@pytest.mark.parametrize("own_tokens", [0, 1])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_no_exit_sees_how_much_padding_follows_a_text(pooling, own_tokens):
    trunk = replace(BERT_TRUNK, own_tokens=own_tokens)
    short = replace(PADDED, pooling=pooling, trunk=trunk, length=3)
    long = replace(short, length=5)
    state = random_state(long)
    texts = torch.tensor([[4, 2, 7], [3, 0, 0]])
    cut = {**state, "positions": state["positions"][:, : short.tokens]}
    padded = torch.cat([texts, torch.zeros(2, 2, dtype=texts.dtype)], dim=1)
    for ours, longer in zip(model_with(short, cut)(texts), model_with(long, state)(padded), strict=True):
        torch.testing.assert_close(ours, longer, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_text_of_padding_alone_is_finite(variant):
    shape = replace(PADDED, variant=variant)
    logits = model_with(shape, random_state(shape))(torch.zeros(2, 5, dtype=torch.int32))
    assert all(bool(torch.isfinite(z).all()) for z in logits)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_words_of_no_text_decide_nothing_without_padding(pooling):
    """A shape that names no padding reads every word: what fresh models have always done."""
    shape = replace(TEXT, pooling=pooling)
    assert Transformer(shape).there(random_samples(shape)) is None


def test_a_shape_of_no_kind_is_refused():
    with pytest.raises(ValueError, match="no kind of transformer has the fields"):
        shape_from_json({"dim": 3})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pooling": "max"}, "pooling must be one of"),
        ({"patch": 3}, "patch must divide image"),
        ({"heads": 3}, "heads must divide dim"),
        ({"exits": ()}, "exits must ascend"),
        ({"exits": (1, 2)}, "exits must ascend"),
        ({"exits": (2, 1, 3)}, "exits must ascend"),
        ({"exits": (0, 3)}, "exits must ascend"),
    ],
)
def test_shapes_that_do_not_fit_together_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **changes)


def test_a_patch_that_does_not_divide_the_steps_is_refused():
    with pytest.raises(ValueError, match="patch must divide the steps of a series, got patch 4, 6 steps"):
        replace(SERIES, patch=4)


def test_a_series_of_patches_along_time_has_a_token_a_patch():
    assert (SERIES.input_tokens, SERIES.tokens, SERIES.sample_shape, SERIES.patch_entries) == (3, 4, (6, 3), 6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"norm": "none"}, "norm must be one of"),
        ({"gelu": "relu"}, "gelu must be one of"),
        ({"pooler": "max"}, "pooler must be one of"),
        ({"epsilon": 0.0}, "epsilon must be > 0"),
        ({"own_tokens": -1}, "own_tokens must be >= 0"),
    ],
)
def test_trunks_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(BERT_TRUNK, **changes)


def test_padding_is_a_word_of_the_vocabulary():
    with pytest.raises(ValueError, match=r"padding must be a word in 0\.\.8, got 9"):
        replace(TEXT, padding=9)
