from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_models import SMALL, model_with, random_samples, random_state

from cosp.models.transformer import Transformer
from cosp.submodel.plan import GROUPS
from cosp.trainer.importance import (
    GateSettings,
    learned_scores,
    magnitude_scores,
    open_gates,
    squared_gradient_scores,
    taylor_scores,
)

LABELS = torch.tensor([0, 1, 2, 1])
BATCHES = [(random_samples(SMALL, 4, seed=s), LABELS) for s in (1, 2)]


@pytest.fixture
def model() -> Transformer:
    return model_with(SMALL, random_state(SMALL))


def owned_products(model: Transformer, block: int) -> dict[str, torch.Tensor]:
    """Sum of w * dL/dw over the weights that each unit owns, from plain weight gradients."""
    here = model.blocks[block]

    def product(parameter: torch.Tensor) -> torch.Tensor:
        return parameter.detach() * parameter.grad

    out, up, down = here.attention.out, here.ffn.up, here.ffn.down
    assert up.weight.grad is not None
    return {
        "heads": product(out.weight).view(8, 2, 4).sum((0, 2)),
        "attention_rows": product(out.weight).sum(1) + product(out.bias),
        "hidden": product(down.weight).sum(0),
        "ffn_rows": product(down.weight).sum(1) + product(down.bias),
    }


def test_taylor_scores_are_weight_times_gradient_of_the_weights_a_unit_owns(model):
    expected = [{group: torch.zeros(SMALL.sizes.of(group)) for group in GROUPS} for _ in range(3)]
    for x, y in BATCHES:
        model.zero_grad()
        F.cross_entropy(model(x)[-1], y).backward()
        for block in range(3):
            for group, value in owned_products(model, block).items():
                expected[block][group] += value.abs()
    scores = taylor_scores(model, BATCHES)
    for found, wanted in zip(scores, expected, strict=True):
        for group in GROUPS:
            np.testing.assert_allclose(found[group], wanted[group].numpy(), rtol=1e-4, atol=1e-6)


def test_taylor_scores_predict_what_closing_a_gate_costs(model):
    x, y = BATCHES[0]
    score = taylor_scores(model, BATCHES[:1])[1]["hidden"][3]
    gates = open_gates(SMALL, 3)
    before = F.cross_entropy(model(x, gates)[-1], y)
    gates[1]["hidden"][3] = 1 - 1e-2
    after = F.cross_entropy(model(x, gates)[-1], y)
    assert abs(float(after - before)) == pytest.approx(1e-2 * score, rel=0.05)


def test_open_gates_change_nothing(model):
    x = BATCHES[0][0]
    for gated, plain in zip(model(x, open_gates(SMALL, 3)), model(x), strict=True):
        assert torch.equal(gated, plain)


def learned(model: Transformer, **settings: float) -> tuple[dict[str, np.ndarray], ...]:
    choice = GateSettings(**{"keep": 0.5, "epochs": 5, **settings})
    return learned_scores(model, BATCHES, choice, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("keep", [0.2, 0.8])
def test_a_strong_penalty_brings_the_kept_share_to_the_keep_ratio(model, keep):
    cost = {"heads": 4 * 4 * 8, "attention_rows": 8, "hidden": 2 * 8, "ffn_rows": 6}
    scores = learned(model, keep=keep, epochs=40, learning_rate=0.2, penalty=100.0)
    kept = sum(cost[group] * (1 / (1 + np.exp(-block[group]))).sum() for block in scores for group in GROUPS)
    assert kept / (3 * sum(cost[group] * SMALL.sizes.of(group) for group in GROUPS)) == pytest.approx(keep, abs=0.1)


def test_learning_gates_moves_scores_and_leaves_weights_alone(model):
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    scores = learned(model, penalty=0.0)
    assert all((block[group] != 0).all() for block in scores for group in GROUPS)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name])
        assert parameter.grad is None


def test_learned_scores_repeat_with_their_generator(model):
    for first, second in zip(learned(model), learned(model), strict=True):
        assert all(np.array_equal(first[group], second[group]) for group in GROUPS)


def test_the_magnitude_of_a_unit_is_the_norm_of_the_weights_that_write_it(model):
    state, scores = random_state(SMALL), magnitude_scores(model)
    qkv = state["blocks.1.attention.qkv_weight"]
    assert scores[1]["heads"][1] == pytest.approx(float(qkv[:, 4:8].norm()), rel=1e-5)
    rows = {"attention_rows": "attention.out", "hidden": "ffn.up", "ffn_rows": "ffn.down"}
    for group, layer in rows.items():
        assert scores[1][group][3] == pytest.approx(float(state[f"blocks.1.{layer}.weight"][3].norm()), rel=1e-5)


@pytest.mark.parametrize("micro_batch", [1, 3, 4, 9])
def test_scores_do_not_depend_on_how_many_samples_are_held_at_a_time(model, micro_batch):
    at_once = taylor_scores(model, BATCHES), learned(model)
    choice, generator = GateSettings(keep=0.5, epochs=5), torch.Generator().manual_seed(0)
    in_parts = (
        taylor_scores(model, BATCHES, micro_batch),
        learned_scores(model, BATCHES, choice, generator, micro_batch),
    )
    for whole, parts in zip(at_once, in_parts, strict=True):
        for expected, found in zip(whole, parts, strict=True):
            for group in GROUPS:
                np.testing.assert_allclose(found[group], expected[group], rtol=1e-4, atol=1e-6)


def test_scores_have_one_number_a_unit(model):
    for scores in (taylor_scores(model, BATCHES), learned(model), magnitude_scores(model)):
        assert [{g: len(block[g]) for g in GROUPS} for block in scores] == [{g: SMALL.sizes.of(g) for g in GROUPS}] * 3


def test_squared_gradients_by_hand(model):
    found = squared_gradient_scores(model, BATCHES[:1])
    x, y = BATCHES[0]
    model.zero_grad()
    F.cross_entropy(model(x)[-1], y).backward()
    out, up, down = model.blocks[1].attention.out, model.blocks[1].ffn.up, model.blocks[1].ffn.down
    qkv = model.blocks[1].attention
    expected = {
        "heads": qkv.qkv_weight.grad.square().view(3, 2, -1).sum((0, 2))
        + qkv.qkv_bias.grad.square().view(3, 2, -1).sum((0, 2))
        + out.weight.grad.square().view(8, 2, 4).sum((0, 2)),
        "attention_rows": out.weight.grad.square().sum(1) + out.bias.grad.square(),
        "hidden": up.weight.grad.square().sum(1) + up.bias.grad.square() + down.weight.grad.square().sum(0),
        "ffn_rows": down.weight.grad.square().sum(1) + down.bias.grad.square(),
    }
    for group in GROUPS:
        assert found[1][group] == pytest.approx(expected[group].numpy(), rel=1e-4)


def test_squared_gradients_of_micro_batches_are_those_of_the_batch(model):
    whole, parts = squared_gradient_scores(model, BATCHES), squared_gradient_scores(model, BATCHES, micro_batch=3)
    for one, other in zip(whole, parts, strict=True):
        assert all(one[group] == pytest.approx(other[group], rel=1e-3) for group in GROUPS)
