"""Blocks that are computed twice: the same gradients to the bit, and nothing kept in between."""

from __future__ import annotations

import subprocess
import sys
from contextlib import nullcontext
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from small_models import SMALL, random_samples, shapes_and_plans
from submodel_work import model_of
from torch import Tensor

from cosp.models.flat import FlatModel
from cosp.models.recomputed import recomputed
from cosp.submodel.frozen import NOTHING, Frozen


def gradients(model: FlatModel, read: Tensor, **more: object) -> Tensor:
    model.gradients.zero_()
    torch.stack([z.square().sum() for z in model.module(read, **more)]).sum().backward()
    return model.gradients.clone()


@settings(max_examples=25, deadline=None)
@given(shapes_and_plans())
def test_gradients_are_the_same_to_the_bit(shape_and_plan):
    shape, plan = shape_and_plan
    model, read = model_of(shape, plan, NOTHING), random_samples(shape, 3)
    assert torch.equal(gradients(model, read), gradients(model, read, again=nullcontext))


@pytest.mark.parametrize("frozen", [Frozen(inputs=True), Frozen(blocks=1), Frozen(blocks=2, norms=True)])
def test_behind_frozen_parts_too(frozen):
    model, read = model_of(SMALL, SMALL.full_plan(), frozen), random_samples(SMALL, 3)
    assert torch.equal(gradients(model, read), gradients(model, read, again=nullcontext))


def test_under_autocast_too():
    under = partial(torch.autocast, "cpu", dtype=torch.bfloat16)
    model, read = model_of(SMALL, SMALL.full_plan(), NOTHING), random_samples(SMALL, 3)

    def mixed(**more: object) -> Tensor:
        model.gradients.zero_()
        with under():
            loss = torch.stack([z.float().square().sum() for z in model.module(read, **more)]).sum()
        loss.backward()
        return model.gradients.clone()

    plain = mixed()
    assert torch.equal(plain, mixed(again=under))
    assert not torch.equal(plain, gradients(model, read))


def test_without_gradients_nothing_is_computed_twice():
    model, read, seen = model_of(SMALL, SMALL.full_plan(), NOTHING), random_samples(SMALL, 2), []
    with torch.no_grad():
        model.module(read, again=lambda: seen.append(0) or nullcontext())
    assert not seen


def test_what_is_not_needed_again_is_not_computed_again():
    weight, steps = torch.ones(2, 2, requires_grad=True), []

    def compute(x: Tensor) -> Tensor:
        steps.append("product")
        y = x @ weight
        steps.append("sum")
        return y + 1

    found = recomputed(compute, torch.ones(1, 2), under=nullcontext)
    found.sum().backward()
    assert steps == ["product", "sum", "product"]
    assert weight.grad.tolist() == [[1, 1], [1, 1]]


def test_a_second_backward_pass_reads_what_the_first_computed():
    weight, turns = torch.ones(2, requires_grad=True), []
    found = recomputed(lambda x: turns.append(0) or x * weight, torch.ones(2), under=nullcontext).sum()
    found.backward(retain_graph=True)
    found.backward()
    assert (weight.grad.tolist(), len(turns)) == ([2, 2], 2)


def test_what_saves_something_else_the_second_time_is_told():
    weight, turns = torch.ones(2, requires_grad=True), []

    def compute(x: Tensor) -> Tensor:
        turns.append(0)
        return x * weight * 2 * weight if len(turns) == 1 else x + weight

    with pytest.raises(RuntimeError, match="saved less when it was computed again"):
        recomputed(compute, torch.ones(2), under=nullcontext).sum().backward()


def test_it_imports_no_compiler():
    """``torch.utils.checkpoint`` does with its first call: seconds, and tens of megabytes."""
    said = (
        "import sys, torch; from contextlib import nullcontext; from cosp.models.recomputed import recomputed\n"
        "w = torch.ones(2, requires_grad=True)\n"
        "recomputed(lambda x: x * w * w, torch.ones(2), under=nullcontext).sum().backward()\n"
        "assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", said], check=True)
