"""Frozen weights as halves: what holding them and computing with them costs, held against torch's own account."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import BERT_TRUNK, FASHION, MOVES, NEWS, SENTENCES, random_samples, shapes
from submodel_work import (
    assert_peak,
    counted_flops,
    evaluation,
    model_of,
    scoring,
    tally_of_a_step,
    training,
    whole_trunk,
)

from cosp.models import TransformerShape
from cosp.submodel import budget
from cosp.submodel.adapters import PROJECTIONS, Adapters
from cosp.submodel.footprint import footprint
from cosp.submodel.frozen import Frozen

BERT = replace(SENTENCES, pooling="class", trunk=BERT_TRUNK)
USUAL = Adapters(rank=4)
TRUNK = Frozen(trunk=True, held_as="float16")
BLOCKS = Frozen(blocks=2, held_as="bfloat16")

OFTEN: list[Any] = [
    (replace(FASHION, adapters=USUAL), 1.0, TRUNK),
    (replace(SENTENCES, adapters=USUAL), 1.0, TRUNK),
    (replace(SENTENCES, adapters=Adapters(rank=4, projections=("query", "value"))), 0.5, TRUNK),
    (replace(FASHION, adapters=Adapters(rank=4, projections=("query", "value"))), 1.0, TRUNK),
    (FASHION, 0.5, BLOCKS),
    (NEWS, 1.0, replace(BLOCKS, norms=True)),
]
SELDOM: list[Any] = [
    *(
        (shape, width, replace(frozen, held_as="bfloat16"))
        for shape in (FASHION, NEWS, MOVES, SENTENCES, BERT)
        for width in (1.0, 0.5)
        for frozen in (Frozen(inputs=True), Frozen(norms=True), Frozen(norms=True, blocks=3), Frozen(blocks=4))
    ),
    (NEWS, 1.0, Frozen(words=True, held_as="float16")),
    *(
        (replace(shape, adapters=adapters), width, frozen)
        for shape in (FASHION, NEWS, BERT)
        for width in (1.0, 0.5)
        for adapters, frozen in (
            (USUAL, TRUNK),
            (Adapters(rank=16, projections=PROJECTIONS), TRUNK),
            (Adapters(rank=4, projections=("up", "down")), replace(TRUNK, norms=True)),
            (USUAL, replace(TRUNK, blocks=2)),
        )
    ),
]
GRID = OFTEN + [pytest.param(*case, marks=pytest.mark.slow) for case in SELDOM]
on_the_grid = pytest.mark.parametrize(("shape", "width", "frozen"), GRID)
twice_or_not = pytest.mark.parametrize("checkpointing", [False, True])
LARGE = pytest.param(64, marks=pytest.mark.slow)


def asked(shape: TransformerShape, width: float, frozen: Frozen, checkpointing: bool) -> tuple[Any, Any]:
    """What is predicted, and what makes that training."""
    plan = whole_trunk(shape, width, shape.blocks, frozen)
    work = partial(training, shape, plan, frozen=frozen, checkpointing=checkpointing)
    return footprint(shape, plan.counts, frozen=frozen, checkpointing=checkpointing), work


@on_the_grid
@twice_or_not
@pytest.mark.parametrize("batch", [16, LARGE])
def test_training_memory_is_what_torch_allocates(shape, width, frozen, checkpointing, batch):
    size, work = asked(shape, width, frozen, checkpointing)
    assert_peak(size.training_bytes(batch, "sgd"), work(batch, "sgd"))


@on_the_grid
@twice_or_not
@pytest.mark.parametrize("batch", [2, LARGE])
def test_kernels_and_traffic_are_those_that_torch_starts(shape, width, frozen, checkpointing, batch):
    size, work = asked(shape, width, frozen, checkpointing)
    step, found = size.training_step(batch, "adamw"), tally_of_a_step(partial(work, batch, "adamw"))
    assert step.kernels == pytest.approx(found.kernels, rel=0.03)
    assert step.bytes_moved == pytest.approx(found.bytes_moved, rel=0.06)


WIDE = [(shape, frozen) for shape, width, frozen in OFTEN if width == 1.0]


@pytest.mark.parametrize(("shape", "frozen"), WIDE)
def test_scoring_costs_what_torch_counts(shape, frozen):
    plan, batch = shape.full_plan(), 16
    size, work = footprint(shape, plan.counts, frozen=frozen), partial(scoring, shape, plan, batch, frozen=frozen)
    found = tally_of_a_step(work)
    assert size.scoring_step(batch).kernels == pytest.approx(found.kernels, rel=0.02)
    assert size.scoring_step(batch).bytes_moved == pytest.approx(found.bytes_moved, rel=0.1)
    assert_peak(size.scoring_bytes(batch), work())


@pytest.mark.parametrize(("shape", "frozen"), WIDE)
def test_evaluation_costs_what_torch_counts(shape, frozen):
    plan, batch = shape.full_plan(), 64
    size, work = footprint(shape, plan.counts, frozen=frozen), partial(evaluation, shape, plan, batch, frozen=frozen)
    found = tally_of_a_step(work)
    assert size.evaluation_step(batch).kernels == pytest.approx(found.kernels, rel=0.05)
    assert size.evaluation_step(batch).bytes_moved == pytest.approx(found.bytes_moved, rel=0.1)
    assert_peak(size.evaluation_bytes(batch), work())


@st.composite
def parts(draw: st.DrawFn) -> Frozen:
    flag = st.booleans()
    return Frozen(draw(flag), False, draw(flag), draw(st.integers(0, 3)), draw(flag), "float16")


@settings(max_examples=40, deadline=None)
@given(shapes(), parts(), st.booleans())
def test_flops_are_what_torch_counts_and_those_of_float32(shape, frozen, checkpointing):
    plan = whole_trunk(shape, 0.5, shape.blocks, frozen)
    model = model_of(shape, plan, frozen).module
    more = {"again": nullcontext} if checkpointing else {}
    counted = counted_flops(
        lambda: torch.stack([z.sum() for z in model(random_samples(shape, 3), **more)]).sum().backward()
    )
    held = (frozen, replace(frozen, held_as="float32"))
    sizes = [footprint(shape, plan.counts, frozen=left, checkpointing=checkpointing) for left in held]
    assert {size.training_step(3, "adamw").flops for size in sizes} == {counted}
    assert len({(size.parameters, size.frozen, size.activation_bytes, size.evaluation.flops) for size in sizes}) == 1


def test_what_is_frozen_takes_half_and_a_cast_of_the_largest_matrix_is_beside_it():
    shape = replace(FASHION, adapters=USUAL)
    counts = shape.full_plan().counts
    plain, halves = (footprint(shape, counts, frozen=replace(TRUNK, held_as=form)) for form in ("float32", "float16"))
    assert halves.frozen_bytes == 2 * halves.frozen == plain.frozen_bytes / 2
    saved = plain.training_bytes(16, "sgd") - halves.training_bytes(16, "sgd")
    assert saved == 2 * plain.frozen - 4 * 64 * 256
    assert halves.training.kernels - plain.training.kernels == 4 * (12 + 4) - 1 + 3


def test_a_memory_holds_more_of_it():
    shape = replace(FASHION, adapters=USUAL)
    options: dict[str, Any] = {"batch": 1, "optimizer": "sgd"}
    limit_bytes = footprint(shape, shape.full_plan().counts, frozen=TRUNK).training_bytes(1, "sgd")
    whole = budget.shape_for_memory(shape, limit_bytes, frozen=TRUNK, **options)
    narrow = budget.shape_for_memory(shape, limit_bytes, frozen=replace(TRUNK, held_as="float32"), **options)
    assert footprint(shape, narrow.of_blocks(shape)).parameters < footprint(shape, whole.of_blocks(shape)).parameters
