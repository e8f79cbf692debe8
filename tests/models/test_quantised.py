from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_models import SMALL, model_with, random_samples, random_state

from cosp.models.quantised import bits_penalty, quantise
from cosp.models.transformer import Transformer
from cosp.submodel.shape import layout_of

QUANTISED = replace(SMALL, variant="quantised")
VALUES = torch.tensor([-9.0, -0.6, 0.0, 0.24, 0.26, 9.0])


def model() -> Transformer:
    state = random_state(QUANTISED)
    return model_with(QUANTISED, {n: t * 0 if "offsets" in n else t for n, t in state.items()})


def test_quantising_by_hand():
    found = quantise(VALUES, torch.tensor(0.5), torch.tensor(2.0))  # levels -2, -1, 0, 1
    assert found.tolist() == [-1.0, -0.5, 0.0, 0.0, 0.5, 0.5]


@given(st.floats(0.01, 2.0), st.floats(2.0, 8.0))
def test_quantised_values_lie_on_the_grid_within_half_a_step(scale, bits):
    x = torch.linspace(-1, 1, 41)
    found = quantise(x, torch.tensor(scale), torch.tensor(bits))
    steps = found / torch.tensor(scale)
    torch.testing.assert_close(steps, steps.round(), rtol=0, atol=1e-4)
    levels = 2 ** (round(bits) - 1)
    inside = (x / scale >= -levels) & (x / scale <= levels - 1)
    assert bool(((found - x).abs()[inside] <= scale / 2 + 1e-6).all())
    assert len(steps.round().unique()) <= 2 * levels


def test_gradients_pass_straight_through_but_for_what_is_clipped():
    x = VALUES.clone().requires_grad_()
    scale, bits = torch.tensor(0.5, requires_grad=True), torch.tensor(2.0, requires_grad=True)
    quantise(x, scale, bits).sum().backward()
    assert x.grad.tolist() == [0.0, 1.0, 1.0, 1.0, 1.0, 0.0]
    # LSQ: rounding error inside, the level outside
    inside = [round(v / 0.5) - v / 0.5 for v in (-0.6, 0.0, 0.24, 0.26)]
    assert scale.grad.item() == pytest.approx(-2 + sum(inside) + 1, rel=1e-4)
    assert bits.grad.item() == pytest.approx(0.0, abs=1e-6)  # one is clipped low, one high: they cancel


def test_at_eight_bits_a_model_computes_nearly_the_plain_one_and_at_two_it_does_not():
    x = random_samples(SMALL)
    plain = model_with(
        SMALL, {name: tensor for name, tensor in random_state(QUANTISED).items() if name in layout_of(SMALL)}
    )
    errors = []
    for offset, scale in ((4.0, -2.0), (-2.0, 0.0)):
        found = model()
        with torch.no_grad():
            for block in found.blocks:
                block.quantisers.offsets.view(-1, 2)[:, 0] = scale + 1.0
                block.quantisers.offsets.view(-1, 2)[:, 1] = offset
        errors.append(float((found(x)[0] - plain(x)[0]).abs().mean().detach()))
    assert errors[0] < 0.2 * errors[1]


def test_the_layout_names_every_parameter():
    found = {name: tuple(p.shape) for name, p in model().named_parameters()}
    assert found == {name: entry.shape for name, entry in layout_of(QUANTISED).items()}


def test_bits_spent_on_target_cost_nothing_and_twice_as_many_as_much():
    quantisers = [block.quantisers for block in model().blocks]
    assert float(bits_penalty(quantisers, (1, 2, 3, 4), 4.0).detach()) == pytest.approx(0.0, abs=1e-6)
    with torch.no_grad():
        for one in quantisers:
            one.offsets.view(-1, 4)[:, 1] = 4.0  # eight bits a weight
    penalty = bits_penalty(quantisers, (1, 2, 3, 4), 4.0)
    assert float(penalty.detach()) == pytest.approx(1.0, rel=1e-5)
    penalty.backward()
    assert all(bool((one.offsets.grad.view(-1, 4)[:, 3] > 0).all()) for one in quantisers)
