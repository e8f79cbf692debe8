from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from small_models import SMALL, model_with, random_samples, random_state, same_units, shapes_and_plans

from cosp.models.flat import FlatModel
from cosp.submodel.flat import flatten, length, spans_of, views
from cosp.submodel.layout import parameter_count
from cosp.submodel.shape import layout_of
from cosp.submodel.slicing import extract

CPU = torch.device("cpu")
NARROW = same_units(2, heads=(1,), attention_rows=(0, 3), hidden=(2, 4), ffn_rows=(5,))


@settings(max_examples=30)
@given(shapes_and_plans())
def test_views_undo_flatten(shape_and_plan):
    shape, plan = shape_and_plan
    layout = layout_of(shape)
    submodel, spans = extract(random_state(shape), layout, plan), spans_of(layout, plan.counts)
    vector = flatten(submodel, spans)
    assert vector.numel() == length(spans) == parameter_count(layout, plan.counts)
    back = views(vector, spans)
    assert list(back) == list(submodel)
    assert all(torch.equal(back[name], submodel[name]) for name in submodel)


def test_spans_lie_end_to_end():
    spans = list(spans_of(layout_of(SMALL), NARROW.counts).values())
    assert spans[0].start == 0
    assert all(a.stop == b.start for a, b in itertools.pairwise(spans))


def test_a_vector_of_another_length_is_refused():
    spans = spans_of(layout_of(SMALL), NARROW.counts)
    with pytest.raises(ValueError, match="entries"):
        views(torch.zeros(length(spans) + 1), spans)


def test_views_share_the_vectors_memory():
    spans = spans_of(layout_of(SMALL), NARROW.counts)
    vector = torch.zeros(length(spans))
    views(vector, spans)["class_token"].fill_(1.0)
    assert vector[:8].tolist() == [1.0] * 8
    assert not vector[8:].any()


def test_parameters_and_gradients_are_views_into_two_vectors():
    model = FlatModel(SMALL, NARROW, CPU)
    model.load(torch.zeros_like(model.weights))
    parameters = dict(model.module.named_parameters())
    model.weights += 2.0
    assert all((parameter == 2.0).all() for parameter in parameters.values())
    model.gradients += 3.0
    assert all((parameter.grad == 3.0).all() for parameter in parameters.values())


def test_a_backward_pass_writes_into_the_gradient_vector():
    model = FlatModel(SMALL, NARROW, CPU)
    spans = spans_of(layout_of(SMALL), NARROW.counts)
    model.load(flatten(extract(random_state(SMALL), layout_of(SMALL), NARROW), spans))
    plain = model_with(SMALL, random_state(SMALL), NARROW)
    for module in (model.module, plain):
        sum(z.square().sum() for z in module(random_samples(SMALL))).backward()
    expected = torch.cat([parameter.grad.flatten() for parameter in plain.parameters()])
    assert torch.equal(model.gradients, expected)


def test_loading_copies():
    model = FlatModel(SMALL, NARROW, CPU)
    received = torch.ones_like(model.weights)
    model.load(received)
    model.weights += 1.0
    assert (received == 1.0).all()


def test_a_flat_model_computes_what_the_plain_one_does():
    layout, state = layout_of(SMALL), random_state(SMALL)
    model = FlatModel(SMALL, NARROW, CPU)
    model.load(flatten(extract(state, layout, NARROW), spans_of(layout, NARROW.counts)))
    images = random_samples(SMALL)
    for flat, plain in zip(model.module(images), model_with(SMALL, state, NARROW)(images), strict=True):
        assert torch.equal(flat, plain)
