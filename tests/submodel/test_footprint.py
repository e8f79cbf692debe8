from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from small_models import (
    BERT_TRUNK,
    FASHION,
    MOVES,
    NEWS,
    SMALL,
    VIT_B,
    model_with,
    random_samples,
    random_state,
    shapes,
    shapes_and_plans,
)
from submodel_work import assert_peak, counted_flops, evaluation, saved_bytes, scoring, tally_of_a_step, training

from cosp.models import SeriesShape, ViTShape
from cosp.models.transformer import Transformer
from cosp.submodel.footprint import footprint
from cosp.submodel.passes import PRECISIONS
from cosp.submodel.plan import prefix_plan
from cosp.submodel.shape import FRESH, POOLINGS
from cosp.task.training import OPTIMIZERS
from cosp.trainer.importance import freeze, open_gates
from cosp.trainer.trainer import EVALUATION_BATCH
from cosp.trainer.training import _NoScaler

LONG = ViTShape(image=32, patch=4, channels=3, classes=10, dim=96, blocks=4, heads=4, hidden=384, exits=(1, 2, 3, 4))
MANY_CLASSES = ViTShape(
    image=16, patch=8, channels=1, classes=100, dim=256, blocks=6, heads=8, hidden=512, exits=(2, 6)
)


@settings(max_examples=30)
@given(shapes_and_plans())
def test_parameters_are_those_of_the_module(shape_and_plan):
    shape, plan = shape_and_plan
    module = Transformer(shape, plan)
    assert footprint(shape, plan.counts).parameters == sum(parameter.numel() for parameter in module.parameters())


@settings(max_examples=20)
@given(shapes_and_plans())
def test_forward_flops_are_what_torch_counts(shape_and_plan):
    shape, plan = shape_and_plan
    model = model_with(shape, random_state(shape), plan)
    with torch.no_grad():
        counted = counted_flops(lambda: model(random_samples(shape, 3)))
    assert footprint(shape, plan.counts).evaluation_step(3).flops == counted


@settings(max_examples=20)
@given(shapes_and_plans())
def test_training_flops_are_what_torch_counts(shape_and_plan):
    shape, plan = shape_and_plan
    model = model_with(shape, random_state(shape), plan)
    counted = counted_flops(lambda: torch.stack([z.sum() for z in model(random_samples(shape, 3))]).sum().backward())
    assert footprint(shape, plan.counts).training_step(3, "adamw").flops == counted


@settings(max_examples=20)
@given(shapes())
def test_scoring_flops_are_what_torch_counts(shape):
    model, gates = model_with(shape, random_state(shape)), open_gates(shape, shape.blocks)
    freeze(model)
    for gate in (gate for block in gates for gate in block.values()):
        gate.requires_grad_()
    # taylor_scores' own pass; the counter cannot follow its autograd.grad
    counted = counted_flops(lambda: model(random_samples(shape, 3), gates)[-1].sum().backward())
    assert footprint(shape, shape.full_plan().counts).scoring_step(3).flops == counted


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize(("width", "depth"), [(1.0, 4), (1.0, 1), (0.5, 4), (0.25, 2)])
@pytest.mark.parametrize("kind", [FASHION, MOVES], ids=["images", "series"])
def test_activations_are_what_autograd_saves(kind, width, depth, pooling):
    shape = replace(kind, pooling=pooling)
    plan = prefix_plan(shape.sizes.scaled(width), depth)
    model = model_with(shape, random_state(shape), plan)
    predicted = 8 * footprint(shape, plan.counts).activation_bytes
    assert predicted == pytest.approx(saved_bytes(model, batch=8), rel=0.01)


SLOW = pytest.mark.slow
GRID: list[Any] = [
    pytest.param(
        replace(shape, pooling=pooling),
        width,
        depth,
        marks=[SLOW] if (pooling != POOLINGS[0] and width != 0.5) or (width == 1.0 and depth < shape.blocks) else [],
    )
    for pooling in POOLINGS
    for shape in (FASHION, LONG, MANY_CLASSES, NEWS, MOVES)
    for width, depth in ((1.0, shape.blocks), (1.0, shape.exits[0]), (0.5, shape.blocks), (0.25, shape.exits[0]))
]
"""By default the other pooling is seen in one place, and the first exit with the narrowest model."""
SENTENCES = replace(NEWS, vocabulary=2000, length=32, pooling="class", padding=0, trunk=BERT_TRUNK)
GRID += [
    (shape, width, shape.blocks)
    for shape in (
        SENTENCES,
        replace(SENTENCES, pooling="mean", trunk=replace(BERT_TRUNK, pooler="none")),
        replace(NEWS, padding=0),
        replace(FASHION, trunk=replace(FRESH, own_tokens=2)),
    )
    for width in (1.0, 0.5)
]
on_the_grid = pytest.mark.parametrize(("shape", "width", "depth"), GRID)
MIDDLE, LARGE = (pytest.param(batch, marks=SLOW) for batch in (16, 64))


@on_the_grid
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("batch", [1, 16, LARGE])
def test_training_memory_is_what_torch_allocates(shape, width, depth, batch, optimizer):
    plan = prefix_plan(shape.sizes.scaled(width), depth)
    predicted = footprint(shape, plan.counts).training_bytes(batch, optimizer)
    assert_peak(predicted, training(shape, plan, batch, optimizer))


@on_the_grid
@pytest.mark.parametrize("batch", [1, 16, LARGE])
def test_scoring_memory_is_what_torch_allocates(shape, width, depth, batch):
    plan = shape.full_plan(depth)
    predicted = footprint(shape, plan.counts).scoring_bytes(batch)
    assert_peak(predicted, scoring(shape, plan, batch))


@on_the_grid
@pytest.mark.parametrize("batch", [1, 16, LARGE])
def test_evaluation_memory_is_what_torch_allocates(shape, width, depth, batch):
    plan = prefix_plan(shape.sizes.scaled(width), depth)
    predicted = footprint(shape, plan.counts).evaluation_bytes(batch)
    assert_peak(predicted, evaluation(shape, plan, batch))


WITH_OR_WITHOUT = [(2, False), (16, False), (2, True), pytest.param(64, False, marks=SLOW)]


@on_the_grid
@pytest.mark.parametrize(("batch", "balanced"), WITH_OR_WITHOUT)
def test_kernels_and_traffic_of_training_are_those_that_torch_starts(shape, width, depth, batch, balanced):
    plan = prefix_plan(shape.sizes.scaled(width), depth)
    step = footprint(shape, plan.counts).training_step(batch, "adamw")
    found = tally_of_a_step(partial(training, shape, plan, batch, "adamw", balanced=balanced))
    assert step.kernels == pytest.approx(found.kernels, rel=0.02)
    assert step.bytes_moved == pytest.approx(found.bytes_moved, rel=0.06)


@on_the_grid
@pytest.mark.parametrize("batch", [2, 16, LARGE])
def test_kernels_and_traffic_of_scoring_are_those_that_torch_starts(shape, width, depth, batch):
    plan = shape.full_plan(depth)
    step = footprint(shape, plan.counts).scoring_step(batch)
    found = tally_of_a_step(partial(scoring, shape, plan, batch))
    assert step.kernels == pytest.approx(found.kernels, rel=0.02)
    assert step.bytes_moved == pytest.approx(found.bytes_moved, rel=0.1)


@on_the_grid
def test_kernels_and_traffic_of_evaluation_are_those_that_torch_starts(shape, width, depth):
    plan = prefix_plan(shape.sizes.scaled(width), depth)
    step = footprint(shape, plan.counts).evaluation_step(EVALUATION_BATCH)
    found = tally_of_a_step(partial(evaluation, shape, plan, EVALUATION_BATCH))
    assert step.kernels == pytest.approx(found.kernels, rel=0.05)
    assert step.bytes_moved == pytest.approx(found.bytes_moved, rel=0.1)


def test_a_series_saves_an_images_copy_into_patches():
    """As many tokens of as many values: what differs between the two is one kernel that reads and writes a sample."""
    image = ViTShape(image=4, patch=2, channels=3, classes=3, dim=8, blocks=2, heads=2, hidden=6, exits=(1, 2))
    series = SeriesShape(steps=16, patch=4, channels=3, classes=3, dim=8, blocks=2, heads=2, hidden=6, exits=(1, 2))
    plan = image.full_plan()
    training_work = partial(training, batch=8, optimizer="sgd")
    for work, step in (
        (training_work, lambda cost: cost.training_step(8, "sgd")),
        (partial(scoring, batch=8), lambda cost: cost.scoring_step(8)),
        (partial(evaluation, batch=EVALUATION_BATCH), lambda cost: cost.evaluation_step(EVALUATION_BATCH)),
    ):
        predicted = [step(footprint(shape, plan.counts)) for shape in (image, series)]
        found = [tally_of_a_step(partial(work, shape, plan)) for shape in (image, series)]
        assert predicted[0].kernels - predicted[1].kernels == found[0].kernels - found[1].kernels == 1
        assert predicted[0].bytes_moved - predicted[1].bytes_moved == found[0].bytes_moved - found[1].bytes_moved > 0


@pytest.fixture
def on_a_gpu(monkeypatch):
    """Trains on this CPU as on a GPU with bfloat16: autocast casts the same operations. A CPU emulates: minutes."""
    under = lambda: torch.autocast("cpu", dtype=torch.bfloat16)  # noqa: E731
    monkeypatch.setattr("cosp.trainer.training._mixed_precision", lambda device, wanted: (under, _NoScaler()))


@pytest.mark.usefixtures("on_a_gpu")
@on_the_grid
@pytest.mark.parametrize("batch", [2, MIDDLE, LARGE])
def test_kernels_and_traffic_of_a_mixed_step_are_those_that_torch_starts(shape, width, depth, batch):
    plan = prefix_plan(shape.sizes.scaled(width), depth)
    step = footprint(shape, plan.counts, "mixed").training_step(batch, "adamw")
    found = tally_of_a_step(partial(training, shape, plan, batch, "adamw"))
    assert step.kernels == pytest.approx(found.kernels, rel=0.02)
    assert step.bytes_moved == pytest.approx(found.bytes_moved, rel=0.06)


@pytest.mark.usefixtures("on_a_gpu")
@on_the_grid
@pytest.mark.parametrize("batch", [4, MIDDLE, LARGE])
def test_memory_of_mixed_training_is_what_torch_allocates(shape, width, depth, batch):
    plan = prefix_plan(shape.sizes.scaled(width), depth)
    predicted = footprint(shape, plan.counts, "mixed").training_bytes(batch, "sgd")
    assert_peak(predicted, training(shape, plan, batch, "sgd"))


@on_the_grid
def test_a_mixed_step_saves_what_autocast_saves(shape, width, depth):
    plan = prefix_plan(shape.sizes.scaled(width), depth)
    model = model_with(shape, random_state(shape), plan)
    matrices = sum(parameter.numel() for parameter in model.parameters() if parameter.dim() > 1) - shape.table
    predicted = 16 * footprint(shape, plan.counts, "mixed").activation_bytes + 2 * matrices  # and their half copies
    assert predicted == pytest.approx(saved_bytes(model, batch=16, mixed=True), rel=0.1)


def test_a_mixed_step_halves_what_branches_save_and_keeps_the_residual_stream():
    full, half = (footprint(FASHION, FASHION.full_plan().counts, precision) for precision in PRECISIONS)
    stream = 4 * FASHION.tokens * FASHION.dim * 2 * FASHION.blocks  # two norms a block read it in float32
    assert stream < half.activation_bytes < 0.6 * full.activation_bytes + 0.4 * stream + 1000
    assert half.training_step(8, "sgd").flops == full.training_step(8, "sgd").flops
    with pytest.raises(ValueError, match="precision must be one of"):
        footprint(FASHION, FASHION.full_plan().counts, "int8")


def test_mixed_precision_costs_nothing_in_importance_learning_and_judging():
    full, half = (footprint(FASHION, FASHION.full_plan().counts, precision) for precision in PRECISIONS)
    assert half.scoring_step(8) == full.scoring_step(8)
    assert half.evaluation_step(8) == full.evaluation_step(8)


def test_autocast_starts_22_more_kernels_a_block_and_8_more_an_exit():
    """Casts of the weights and biases of four products and of the inputs of two, and of all their gradients."""
    for depth in (1, 2, 3, 4):
        full, half = (footprint(FASHION, FASHION.full_plan(depth).counts, precision) for precision in PRECISIONS)
        assert half.training.kernels - full.training.kernels == 7 + 22 * depth + 8 * depth


def test_two_steps_one_after_the_other_add_up():
    first, second = (footprint(SMALL, SMALL.full_plan(depth).counts).training_step(5, "sgd") for depth in (3, 1))
    both = first + second
    assert both.flops == first.flops + second.flops
    assert both.bytes_moved == first.bytes_moved + second.bytes_moved
    assert both.kernels == first.kernels + second.kernels


def test_importance_learning_pays_for_no_optimizer_and_no_gradients():
    cost = footprint(VIT_B, VIT_B.full_plan().counts)
    scored, trained = cost.scoring_step(1), cost.training_step(1, "adamw")
    assert scored.bytes_moved < trained.bytes_moved / 3
    assert cost.scoring_bytes(1) < cost.training_bytes(1, "adamw") / 2


@given(shapes_and_plans())
def test_no_submodel_costs_more_than_the_blocks_it_is_cut_from(shape_and_plan):
    shape, plan = shape_and_plan
    part, whole = footprint(shape, plan.counts), footprint(shape, shape.full_plan(plan.depth).counts)
    assert part.parameters <= whole.parameters
    assert part.forward_flops <= whole.forward_flops
