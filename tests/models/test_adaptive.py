from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from small_models import SMALL, model_with, random_samples, random_state

from cosp.models import ViTShape
from cosp.models.adaptive import OPEN, Policy, usage_penalty
from cosp.models.transformer import Transformer, initialise
from cosp.submodel.layout import parameter_count
from cosp.submodel.shape import layout_of

ADAPTIVE = replace(SMALL, variant="adaptive")


def model(shape: ViTShape = ADAPTIVE, **biases: float) -> Transformer:
    """A model whose policies have zero weights and the biases given."""
    found = model_with(shape, random_state(shape))
    with torch.no_grad():
        for block in found.blocks:
            for layer in (block.policy.units, block.policy.patches):
                layer.weight.zero_()
                layer.bias.zero_()
            block.policy.units.bias[:2].fill_(biases.get("heads", 0.0))
            block.policy.units.bias[2].fill_(biases.get("attention", 0.0))
            block.policy.units.bias[3].fill_(biases.get("ffn", 0.0))
            block.policy.patches.bias.fill_(biases.get("patches", 0.0))
    return found


def plain() -> Transformer:
    """The textbook model with the same weights."""
    state = random_state(ADAPTIVE)
    return model_with(SMALL, {name: state[name] for name in layout_of(SMALL)})


def test_a_fresh_policy_uses_everything_and_computes_the_plain_model():
    x = random_samples(SMALL)
    for found, expected in zip(model()(x), plain()(x), strict=True):
        torch.testing.assert_close(found, expected)


def test_the_layout_names_every_parameter():
    found = dict(model().named_parameters())
    assert {name: tuple(p.shape) for name, p in found.items()} == {n: e.shape for n, e in layout_of(ADAPTIVE).items()}
    whole = parameter_count(layout_of(ADAPTIVE), ADAPTIVE.full_plan().counts)
    assert whole - parameter_count(layout_of(SMALL), SMALL.full_plan().counts) == 3 * (4 * 8 + 4 + 8 + 1)


def test_without_heads_attention_writes_its_bias_alone():
    found, expected = model(heads=-9.0), plain()
    with torch.no_grad():
        for block in expected.blocks:
            block.attention.out.weight.zero_()
    x = random_samples(SMALL)
    torch.testing.assert_close(found(x)[-1], expected(x)[-1])


def test_without_both_branches_the_stream_passes_by():
    x = random_samples(SMALL)
    found = model(attention=-9.0, ffn=-9.0)
    features = found.embed(x).mean(1)
    for exit_head, logits in zip(found.exits, found(x), strict=True):
        torch.testing.assert_close(logits, exit_head(features))


def test_patches_that_are_not_used_change_nothing_for_the_class_token():
    found, x = model(replace(ADAPTIVE, pooling="class"), patches=-9.0), random_samples(SMALL)
    other = random_samples(SMALL, seed=9)
    torch.testing.assert_close(found(x)[-1], found(other)[-1])


def test_decisions_are_drawn_in_training_and_certain_in_use():
    policy = Policy(8, 2)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.zero_()
        policy.units.bias.fill_(-OPEN)  # even odds
    x = torch.zeros(2000, 5, 8)
    assert policy(x).heads.unique().tolist() == [0.0]
    policy.generator = torch.Generator().manual_seed(0)
    drawn = policy(x)
    assert drawn.heads.detach().mean().item() == pytest.approx(0.5, abs=0.05)
    assert drawn.tokens[:, 1:].detach().mean().item() == pytest.approx(
        torch.sigmoid(torch.tensor(OPEN)).item(), abs=0.02
    )
    assert drawn.tokens[:, 0].detach().min() == 1.0


def test_the_penalty_by_hand_and_its_gradient_closes_what_is_too_open():
    found = model()
    found(random_samples(SMALL))
    policies = [block.policy for block in found.blocks]
    penalty = usage_penalty(policies, 0.5)
    assert float(penalty.detach()) == pytest.approx(3 * 0.25)
    penalty.backward()
    assert all(bool((policy.units.bias.grad > 0).all()) for policy in policies)


def test_a_fresh_model_starts_open():
    fresh = Transformer(ADAPTIVE)
    initialise(fresh, torch.Generator().manual_seed(0))
    fresh(random_samples(SMALL))
    assert all(float(block.policy.used.tokens.detach().mean()) > 0.9 for block in fresh.blocks)
