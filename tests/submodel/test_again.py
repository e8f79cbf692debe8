"""Blocks that are computed twice: what a step with them costs, held against torch's own account."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import BERT_TRUNK, FASHION, MOVES, NEWS, SENTENCES, random_samples, shapes_and_plans
from submodel_work import assert_peak, counted_flops, model_of, tally_of_a_step, training, whole_trunk
from torch.profiler import ProfilerActivity, profile

from cosp.models import TransformerShape, ViTShape
from cosp.submodel import budget
from cosp.submodel.adapters import PROJECTIONS, Adapters
from cosp.submodel.footprint import footprint
from cosp.submodel.frozen import NOTHING, Frozen
from cosp.submodel.plan import SubmodelPlan
from cosp.trainer.training import _NoScaler

LONG = ViTShape(image=32, patch=4, channels=3, classes=10, dim=96, blocks=4, heads=4, hidden=384, exits=(2, 4))
BERT = replace(SENTENCES, pooling="class", trunk=BERT_TRUNK)
USUAL, TRUNK = Adapters(rank=4), Frozen(trunk=True)

WIDTHS = (1.0, 0.5)
OFTEN: list[Any] = [
    *((shape, width, NOTHING) for shape in (FASHION, SENTENCES) for width in WIDTHS),
    (FASHION, 0.5, Frozen(blocks=2)),
    (replace(FASHION, adapters=USUAL), 1.0, TRUNK),
    (replace(SENTENCES, adapters=USUAL), 1.0, TRUNK),
    (replace(NEWS, adapters=USUAL), 0.5, NOTHING),
]
SELDOM: list[Any] = [
    *((shape, width, NOTHING) for shape in (LONG, NEWS, MOVES, BERT) for width in WIDTHS),
    *(
        (shape, width, frozen)
        for shape in (FASHION, SENTENCES, BERT)
        for width in WIDTHS
        for frozen in (Frozen(inputs=True), Frozen(norms=True, blocks=3), Frozen(blocks=4))
    ),
    *(
        (replace(shape, adapters=adapters), 0.5, frozen)
        for shape in (FASHION, NEWS, BERT)
        for adapters, frozen in (
            (USUAL, TRUNK),
            (Adapters(rank=16, projections=PROJECTIONS), TRUNK),
            (Adapters(rank=4, projections=("up", "down")), Frozen(trunk=True, norms=True)),
            (USUAL, Frozen(trunk=True, blocks=2)),
        )
    ),
]
GRID = OFTEN + [pytest.param(*case, marks=pytest.mark.slow) for case in SELDOM]
on_the_grid = pytest.mark.parametrize(("shape", "width", "frozen"), GRID)
LARGE = pytest.param(64, marks=pytest.mark.slow)


def asked(shape: TransformerShape, width: float, frozen: Frozen) -> tuple[SubmodelPlan, Any]:
    """The plan, and what makes training of it that checkpoints."""
    plan = whole_trunk(shape, width, shape.blocks, frozen)
    return plan, partial(training, shape, plan, frozen=frozen, checkpointing=True)


@on_the_grid
@pytest.mark.parametrize("batch", [16, LARGE])
def test_training_memory_is_what_torch_allocates(shape, width, frozen, batch):
    plan, work = asked(shape, width, frozen)
    predicted = footprint(shape, plan.counts, frozen=frozen, checkpointing=True).training_bytes(batch, "sgd")
    assert_peak(predicted, work(batch, "sgd"))


@on_the_grid
@pytest.mark.parametrize("batch", [2, LARGE])
def test_kernels_and_traffic_are_those_that_torch_starts(shape, width, frozen, batch):
    plan, work = asked(shape, width, frozen)
    step = footprint(shape, plan.counts, frozen=frozen, checkpointing=True).training_step(batch, "adamw")
    found = tally_of_a_step(partial(work, batch, "adamw"))
    assert step.kernels == pytest.approx(found.kernels, rel=0.03 if shape.adapters else 0.02)
    assert step.bytes_moved == pytest.approx(found.bytes_moved, rel=0.06)


@st.composite
def parts(draw: st.DrawFn) -> Frozen:
    flag = st.booleans()
    return Frozen(draw(flag), False, draw(flag), draw(st.integers(0, 3)), draw(flag))


@settings(max_examples=40, deadline=None)
@given(shapes_and_plans(), parts())
def test_flops_are_what_torch_counts(shape_and_plan, frozen):
    shape, plan = shape_and_plan
    whole, narrow = shape.full_plan().blocks, plan.blocks
    plan = SubmodelPlan(whole[: min(frozen.blocks, plan.depth)] + narrow[frozen.blocks :])
    model = model_of(shape, plan, frozen).module

    def work() -> None:
        torch.stack([z.sum() for z in model(random_samples(shape, 3), again=nullcontext)]).sum().backward()

    size = footprint(shape, plan.counts, frozen=frozen, checkpointing=True)
    assert size.training_step(3, "adamw").flops == counted_flops(work)


@pytest.mark.parametrize(("shape", "width"), [(FASHION, 1.0), (SENTENCES, 0.5), (BERT, 1.0)])
def test_between_the_passes_lies_what_is_predicted(shape, width):
    plan = whole_trunk(shape, width, shape.blocks, NOTHING)
    model, read, kept = model_of(shape, plan, NOTHING), random_samples(shape, 64), []
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        kept.append(torch.stack([torch.log_softmax(z, -1).sum() for z in model.module(read, again=nullcontext)]))
    events = profiled.profiler.kineto_results.events()
    held = sum(event.nbytes() for event in events if event.name() == "[memory]")
    predicted = 64 * footprint(shape, plan.counts, checkpointing=True).activation_bytes
    samples = read.nbytes if shape.words else 0  # they were there before
    assert predicted - samples == pytest.approx(held, rel=0.05)
    assert predicted < 64 * footprint(shape, plan.counts).activation_bytes / 2


@pytest.fixture
def on_a_gpu(monkeypatch):
    """See ``test_footprint``."""
    under = lambda: torch.autocast("cpu", dtype=torch.bfloat16)  # noqa: E731
    monkeypatch.setattr("cosp.trainer.training._mixed_precision", lambda device, wanted: (under, _NoScaler()))


TINY = ViTShape(image=28, patch=7, channels=1, classes=10, dim=32, blocks=4, heads=4, hidden=128, exits=(1, 2, 3, 4))
ONCE = [(TINY, 1.0, 2), *(pytest.param(*case, 2, marks=pytest.mark.slow) for case in ((TINY, 0.5), (BERT, 0.5)))]


@pytest.mark.usefixtures("on_a_gpu")
@pytest.mark.parametrize(("shape", "width", "batch"), ONCE)
def test_a_mixed_step_costs_what_torch_counts(shape, width, batch):
    plan, work = asked(shape, width, NOTHING)
    size = footprint(shape, plan.counts, "mixed", checkpointing=True)
    found = tally_of_a_step(partial(work, batch, "adamw"))
    assert size.training_step(batch, "adamw").kernels == pytest.approx(found.kernels, rel=0.02)
    assert size.training_step(batch, "adamw").bytes_moved == pytest.approx(found.bytes_moved, rel=0.06)
    assert_peak(size.training_bytes(batch, "sgd"), work(batch, "sgd"))


def test_what_is_saved_grows_with_the_batch_and_what_it_costs_is_less_than_one_more_forward_pass():
    counts = LONG.full_plan().counts
    plain, twice = footprint(LONG, counts), footprint(LONG, counts, checkpointing=True)
    assert twice.training_bytes(32, "sgd") < plain.training_bytes(32, "sgd") / 2
    assert plain.training.flops < twice.training.flops < plain.training.flops + plain.forward_flops
    assert (twice.scoring, twice.evaluation, twice.parameters) == (plain.scoring, plain.evaluation, plain.parameters)


def test_one_block_alone_is_never_computed_twice():
    counts = FASHION.full_plan(1).counts
    assert footprint(FASHION, counts, checkpointing=True).training == footprint(FASHION, counts).training


def test_a_memory_holds_a_larger_submodel():
    options: dict[str, Any] = {"batch": 32, "optimizer": "sgd"}
    limit_bytes = footprint(LONG, LONG.full_plan().counts).training_bytes(32, "sgd") // 3
    plain = budget.shape_for_memory(LONG, limit_bytes, **options)
    twice = budget.shape_for_memory(LONG, limit_bytes, checkpointing=True, **options)
    cost = footprint(LONG, twice.of_blocks(LONG), checkpointing=True)
    assert cost.parameters > 1.5 * footprint(LONG, plain.of_blocks(LONG)).parameters
    assert cost.training_bytes(32, "sgd") <= limit_bytes
