"""Frozen weights as halves: the model computes what it does in float32 with those that halves say, to the bit."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import SMALL, random_samples, random_state, shapes
from submodel_work import whole_trunk
from torch import Tensor

from cosp.models.flat import FlatModel
from cosp.models.halves import linear, whole
from cosp.models.transformer import Transformer
from cosp.submodel.flat import flatten, length, spans_of, trained_spans_of
from cosp.submodel.footprint import footprint
from cosp.submodel.frozen import Frozen
from cosp.submodel.plan import SubmodelPlan
from cosp.submodel.shape import TransformerShape, layout_of
from cosp.submodel.slicing import extract
from cosp.task.compression import rounded
from cosp.trainer.importance import magnitude_scores, taylor_scores

HALVES = ("float16", "bfloat16")


@st.composite
def parts(draw: st.DrawFn) -> Frozen:
    flag = st.booleans()
    return Frozen(draw(flag), False, draw(flag), draw(st.integers(0, 3)), draw(flag), draw(st.sampled_from(HALVES)))


def pair(shape: TransformerShape, plan: SubmodelPlan, frozen: Frozen, *, trains: bool = True) -> list[FlatModel]:
    """The model that holds halves, and the one that holds in float32 what they say."""
    layout, found = layout_of(shape), []
    spans = spans_of(layout, plan.counts, frozen)
    vector = flatten(extract(random_state(shape), layout, plan), spans)
    first = length(spans) - length(trained_spans_of(layout, plan.counts, frozen))
    said = torch.cat([rounded(vector[:first], frozen.held_as), vector[first:]])
    for left, weights in ((frozen, vector), (replace(frozen, held_as="float32"), said)):
        model = FlatModel(shape, plan, torch.device("cpu"), trains=trains, frozen=left)
        model.load(weights)
        found.append(model)
    return found


def step(model: FlatModel, read: Tensor, **more: object) -> list[Tensor]:
    """Logits of every exit, and the gradient."""
    model.gradients.zero_()
    logits = model.module(read, **more)
    torch.stack([z.square().sum() for z in logits]).sum().backward()
    return [*(z.detach() for z in logits), model.gradients.clone()]


@settings(max_examples=60, deadline=None)
@given(shapes(), parts(), st.sampled_from([0.5, 1.0]))
def test_it_computes_and_learns_to_the_bit_what_halves_say(shape, frozen, width):
    plan, read = whole_trunk(shape, width, shape.blocks, frozen), random_samples(shape, 3)
    halves, whole_ones = pair(shape, plan, frozen)
    expected = step(whole_ones, read)
    for more in ({}, {"again": nullcontext}):
        assert all(torch.equal(*both) for both in zip(step(halves, read, **more), expected, strict=True))


@pytest.mark.parametrize("held_as", HALVES)
def test_scores_are_those_of_what_halves_say(held_as):
    frozen = Frozen(blocks=2, norms=True, held_as=held_as)
    models = pair(SMALL, SMALL.full_plan(), frozen, trains=False)
    batch = [(random_samples(SMALL, 4), torch.tensor([0, 1, 2, 0]))]
    for scored in (magnitude_scores, lambda module: taylor_scores(module, batch)):
        found, expected = (scored(model.module) for model in models)
        for block, other in zip(found, expected, strict=True):
            assert all((block[group] == other[group]).all() for group in block)


def test_a_frozen_tensor_is_held_where_it_was_received():
    frozen = Frozen(blocks=3, held_as="float16")
    model = FlatModel(SMALL, SMALL.full_plan(), torch.device("cpu"), frozen=frozen)
    left = torch.ones(footprint(SMALL, SMALL.full_plan().counts, frozen=frozen).frozen, dtype=torch.float16)
    model.load(torch.zeros_like(model.weights), left)
    held = [parameter for parameter in model.module.parameters() if not parameter.requires_grad]
    assert {parameter.dtype for parameter in held} == {torch.float16}
    assert {parameter.untyped_storage().data_ptr() for parameter in held} == {left.untyped_storage().data_ptr()}


def test_between_the_passes_no_copy_of_a_half_is_kept():
    x, saved = torch.ones(2, 3, requires_grad=True), []
    weight, bias = torch.ones(4, 3, dtype=torch.bfloat16), torch.ones(4, dtype=torch.bfloat16)
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: saved.append(tensor) or tensor, lambda tensor: tensor):
        found = linear(x, weight, bias)
    found.sum().backward()
    assert (saved, found.dtype, x.grad.tolist()) == ([], torch.float32, [[4.0] * 3] * 2)


def test_of_float32_nothing_is_cast():
    weight = torch.ones(2, 2)
    assert whole(weight) is weight
    assert whole(weight.double()).dtype == torch.float64
    model = Transformer(SMALL)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
