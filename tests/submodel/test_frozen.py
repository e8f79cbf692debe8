"""What is frozen: which parameters, how they lie, and what a step with them costs, held against torch's own account."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import BERT_TRUNK, FASHION, NEWS, SENTENCES, SMALL, random_samples, shapes
from submodel_work import assert_peak, counted_flops, model_of, tally_of_a_step, training, whole_trunk

from cosp.errors import ConfigError
from cosp.submodel import budget, capacity
from cosp.submodel.flat import length, spans_of, trained_spans_of
from cosp.submodel.footprint import footprint
from cosp.submodel.frozen import NOTHING, Frozen, canonical, frozen_of
from cosp.submodel.shape import layout_of
from cosp.task.training import TrainSettings

LAYOUT = layout_of(SMALL)


def names_of(frozen: Frozen) -> set[str]:
    return {name for name, entry in LAYOUT.items() if frozen.holds(entry)}


def test_parts_are_the_parameters_that_they_are_called_after():
    inputs = {name for name in LAYOUT if not name.startswith(("blocks.", "exits."))}
    norms = {name for name in LAYOUT if "norm" in name}
    assert names_of(NOTHING) == set()
    assert names_of(frozen_of(["inputs"])) == inputs
    assert names_of(frozen_of(["norms"])) == norms
    assert names_of(frozen_of(["blocks: 2"])) == inputs | {
        n for n in LAYOUT if n.startswith(("blocks.0.", "blocks.1."))
    }
    assert {n for n, entry in layout_of(NEWS).items() if frozen_of(["words"]).holds(entry)} == {"inputs.weight"}


@pytest.mark.parametrize(
    "part",
    ["input", "blocks", {"blocks": 0}, {"blocks": True}, {"blocks": 1, "norms": 1}, "blocks: x", 3],
)
def test_unknown_parts_are_named(part):
    with pytest.raises(ValueError, match=r"^frozen must name some of inputs, words, norms, blocks: N"):
        canonical([part])


def test_a_part_twice_is_refused():
    with pytest.raises(ValueError, match="frozen names a part twice"):
        canonical([{"blocks": 2}, "blocks: 1"])


def test_parts_read_as_they_are_written():
    settings = TrainSettings(frozen=("inputs", {"blocks": 2}))
    assert settings.frozen == ("inputs", "blocks: 2")
    assert replace(settings).frozen == settings.frozen
    assert settings.left == Frozen(inputs=True, blocks=2)


@st.composite
def parts(draw: st.DrawFn) -> Frozen:
    return Frozen(draw(st.booleans()), False, draw(st.booleans()), draw(st.integers(0, 3)), draw(st.booleans()))


@given(shapes(), parts())
def test_frozen_tensors_stand_before_all_that_are_trained(shape, frozen):
    layout, counts = layout_of(shape), (shape.sizes,) * shape.blocks
    spans, trained = spans_of(layout, counts, frozen), trained_spans_of(layout, counts, frozen)
    first = length(spans) - length(trained)
    assert {name: (s.start - first, s.stop - first) for name, s in spans.items() if name in trained} == {
        name: (s.start, s.stop) for name, s in trained.items()
    }
    assert first == footprint(shape, counts, frozen=frozen).frozen
    assert list(spans_of(layout, counts)) == list(layout)


@settings(max_examples=40, deadline=None)
@given(shapes(), parts(), st.data())
def test_training_flops_are_what_torch_counts(shape, frozen, data):
    depth = data.draw(st.sampled_from(shape.exits))
    plan = whole_trunk(shape, 0.5, depth, frozen)
    model = model_of(shape, plan, frozen).module
    counted = counted_flops(lambda: torch.stack([z.sum() for z in model(random_samples(shape, 3))]).sum().backward())
    assert footprint(shape, plan.counts, frozen=frozen).training_step(3, "adamw").flops == counted


GRID = [
    (shape, width, frozen)
    for shape in (FASHION, NEWS, SENTENCES, replace(SENTENCES, pooling="class", trunk=BERT_TRUNK))
    for width in (1.0, 0.5)
    for frozen in (
        Frozen(inputs=True), Frozen(norms=True), Frozen(blocks=2), Frozen(norms=True, blocks=3), Frozen(blocks=4),
        *([Frozen(words=True)] if shape.words else []),
    )
]  # fmt: skip
on_the_grid = pytest.mark.parametrize(("shape", "width", "frozen"), GRID)
ONE, TWO, LARGE = (pytest.param(batch, marks=pytest.mark.slow) for batch in (1, 2, 64))


@on_the_grid
@pytest.mark.parametrize("batch", [ONE, 16, LARGE])
def test_training_memory_is_what_torch_allocates(shape, width, frozen, batch):
    plan = whole_trunk(shape, width, shape.blocks, frozen)
    predicted = footprint(shape, plan.counts, frozen=frozen).training_bytes(batch, "adamw")
    assert_peak(predicted, training(shape, plan, batch, "adamw", frozen=frozen))


@on_the_grid
@pytest.mark.parametrize("batch", [TWO, 16, LARGE])
def test_kernels_and_traffic_are_those_that_torch_starts(shape, width, frozen, batch):
    plan = whole_trunk(shape, width, shape.blocks, frozen)
    step = footprint(shape, plan.counts, frozen=frozen).training_step(batch, "adamw")
    found = tally_of_a_step(partial(training, shape, plan, batch, "adamw", frozen=frozen))
    assert step.kernels == pytest.approx(found.kernels, rel=0.03)
    assert step.bytes_moved == pytest.approx(found.bytes_moved, rel=0.06)


def test_memory_below_the_frozen_trunk_is_named():
    frozen = Frozen(blocks=3)
    whole = footprint(FASHION, FASHION.full_plan().counts).training_bytes(8, "adamw")
    options: dict[str, Any] = {"batch": 8, "optimizer": "adamw", "frozen": frozen}
    found = budget.shape_for_memory(FASHION, whole // 2, **options)
    assert (found.depth, found.whole) == (4, 3)
    assert found.of_blocks(FASHION)[:3] == (FASHION.sizes,) * 3
    assert footprint(FASHION, found.of_blocks(FASHION), frozen=frozen).training_bytes(8, "adamw") <= whole // 2
    for limit in (whole // 100, whole // 20):
        with pytest.raises(ConfigError, match="hold no submodel of this model with its frozen trunk of 3 blocks whole"):
            budget.shape_for_memory(FASHION, limit, **options)


def test_of_a_time_and_a_memory_the_trunk_is_held_too():
    frozen = Frozen(blocks=2)

    def demand_of(shape: budget.SubmodelShape) -> capacity.Demand:
        size = footprint(FASHION, shape.of_blocks(FASHION), frozen=frozen)
        return capacity.Demand(shape, size.parameters, size.training_bytes(8, "adamw"), 1.0)

    found = capacity.best(FASHION, demand_of, capacity.Limits(memory_bytes=2_000_000), trunk=2)
    assert found.shape.whole == 2
    assert found.shape.depth >= 2
    with pytest.raises(ConfigError, match="with its frozen trunk of 2 blocks whole"):
        capacity.best(FASHION, demand_of, capacity.Limits(memory_bytes=10_000), trunk=2)
