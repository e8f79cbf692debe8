"""What a client sends for closed-form heads: the sums, their law over any split, their price."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from small_models import SMALL, random_samples, random_state, shapes_and_plans
from tallies import Tally, peak_bytes

from cosp.merge.ridge import Moments, ridge
from cosp.models import TransformerShape, ViTShape
from cosp.models.flat import FlatModel
from cosp.submodel.flat import flatten, spans_of
from cosp.submodel.footprint import footprint
from cosp.submodel.plan import SubmodelPlan
from cosp.submodel.shape import layout_of
from cosp.submodel.slicing import extract
from cosp.task.demand import peak_memory_bytes, upload_bytes
from cosp.task.moments import from_vector, moments_batch, moments_bytes, moments_length, moments_step
from cosp.task.serial import task_from_json, task_to_json
from cosp.task.task import Task
from cosp.task.training import TrainSettings
from cosp.trainer.moments import sum_moments
from cosp.trainer.samples import ClientSamples, Samples
from cosp.trainer.trainer import Trainer

WIDE = ViTShape(image=16, patch=4, channels=1, classes=10, dim=96, blocks=3, heads=4, hidden=192, exits=(1, 3))


def data(shape: TransformerShape, count: int) -> Samples:
    return Samples(random_samples(shape, count, seed=5).numpy(), np.arange(count) % shape.classes)


def weights(shape: TransformerShape, plan: SubmodelPlan) -> torch.Tensor:
    return flatten(extract(random_state(shape), layout_of(shape), plan), spans_of(layout_of(shape), plan.counts))


def model(shape: TransformerShape, plan: SubmodelPlan) -> FlatModel:
    built = FlatModel(shape, plan, torch.device("cpu"), trains=False)
    built.load(weights(shape, plan))
    return built


def task(shape: TransformerShape, plan: SubmodelPlan, batch: int = 4) -> Task:
    return Task("moments", 0, 0, 0, 0, shape, plan, training=TrainSettings(batch_size=batch))


@settings(max_examples=25, deadline=None)
@given(shapes_and_plans())
def test_moments_are_sums_over_what_each_exits_head_reads(shape_and_plan: tuple[TransformerShape, SubmodelPlan]):
    shape, plan = shape_and_plan
    own = data(shape, 7)
    built = model(shape, plan)
    logits = built.module(torch.from_numpy(own.x))
    features = list(built.module.features_in_turn(torch.from_numpy(own.x)))
    for exit_, read, expected in zip(built.module.exits, features, logits, strict=True):
        assert torch.allclose(exit_.head(read), expected)
    y = torch.nn.functional.one_hot(torch.from_numpy(own.y), shape.classes).double()
    found = from_vector(sum_moments(built, own, batch=3), shape, plan.depth)
    for (squares, classes), read in zip(found, features, strict=True):
        z = torch.cat([read.double(), torch.ones(7, 1)], 1)
        assert torch.allclose(squares, z.T @ z, rtol=1e-4, atol=1e-4)
        assert torch.allclose(classes, z.T @ y, rtol=1e-4, atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=3, max_size=12), st.integers(1, 5))
def test_moments_of_any_split_of_the_data_sum_to_those_of_the_whole(owners: list[int], batch: int):
    whole, built = data(SMALL, len(owners)), model(SMALL, SMALL.full_plan())
    owner = np.array(owners)
    parts = [Samples(whole.x[owner == i], whole.y[owner == i]) for i in sorted(set(owners))]
    summed = torch.stack([sum_moments(built, part, batch) for part in parts]).sum(0)
    assert torch.allclose(summed, sum_moments(built, whole, 250), rtol=1e-4, atol=1e-4)


def test_the_head_of_summed_moments_is_scikit_learns_on_the_features_of_all():
    whole, built = data(SMALL, 60), model(SMALL, SMALL.full_plan())
    parts = [Samples(whole.x[i::4], whole.y[i::4]) for i in range(4)]
    sums = [from_vector(sum_moments(built, part, 8), SMALL, SMALL.blocks) for part in parts]
    features = [read.numpy() for read in built.module.features_in_turn(torch.from_numpy(whole.x))]
    for i, read in enumerate(features):
        moments = Moments(*(sum(found[i][part].numpy() for found in sums) for part in (0, 1)))
        theirs = Ridge(alpha=2.0).fit(read, np.eye(SMALL.classes)[whole.y])
        weight, bias = ridge(moments, 2.0)
        assert np.allclose(weight, theirs.coef_, atol=1e-4)
        assert np.allclose(bias, theirs.intercept_, atol=1e-4)


def test_a_submodel_gives_moments_of_the_exits_that_it_has():
    shallow = SubmodelPlan(SMALL.full_plan().blocks[:2])
    own = data(SMALL, 9)
    trainer = Trainer({0: ClientSamples(own, own)}, {})
    asked = task_from_json(task_to_json(task(SMALL, shallow)))
    facts, vector = trainer.run(asked, weights(SMALL, shallow))
    _, deep = trainer.run(task(SMALL, SMALL.full_plan()), weights(SMALL, SMALL.full_plan()))
    assert facts["samples"] == 9
    assert vector.numel() == moments_length(SMALL, 2) == upload_bytes(asked) // 4
    assert torch.equal(vector, deep[: vector.numel()])  # whatever lies behind


def test_vectors_of_another_length_and_infinite_ones_are_refused():
    vector = torch.zeros(moments_length(SMALL, 2))
    with pytest.raises(ValueError, match=f"moments must be {moments_length(SMALL, 3)} finite numbers"):
        from_vector(vector, SMALL, 3)
    vector[3] = torch.inf
    with pytest.raises(ValueError, match="finite"):
        from_vector(vector, SMALL, 2)


@pytest.mark.parametrize("batch", [4, 64])
def test_memory_is_what_torch_allocates(batch: int):
    plan = WIDE.full_plan()
    own, received = data(WIDE, 2 * batch), weights(WIDE, plan)

    def work() -> None:
        built = FlatModel(WIDE, plan, torch.device("cpu"), trains=False)
        copy = received.clone()
        built.load(copy)
        sum_moments(built, own, batch)

    size = footprint(WIDE, plan.counts)
    assert moments_bytes(WIDE, size, batch) == pytest.approx(peak_bytes(work), rel=0.15)
    assert peak_memory_bytes(task(WIDE, plan, batch)) == moments_bytes(WIDE, size, batch)


def test_kernels_and_traffic_are_those_that_torch_starts():
    plan, batch = WIDE.full_plan(), 32
    built = model(WIDE, plan)
    once, twice = Tally(), Tally()
    for tally, steps in ((once, 1), (twice, 2)):
        with tally:
            sum_moments(built, data(WIDE, steps * batch), batch)
    step = moments_step(WIDE, footprint(WIDE, plan.counts), batch)
    assert twice.kernels - once.kernels == step.kernels
    assert twice.bytes_moved - once.bytes_moved == pytest.approx(step.bytes_moved, rel=0.15)


@settings(max_examples=25, deadline=None)
@given(shapes_and_plans(), st.floats(0.0, 4.0))
def test_the_batch_is_the_largest_that_fits(shape_and_plan: tuple[TransformerShape, SubmodelPlan], share: float):
    shape, plan = shape_and_plan
    size = footprint(shape, plan.counts)
    limit_bytes = int(share * moments_bytes(shape, size, 8))
    batch = moments_batch(shape, size, limit_bytes)
    assert batch == 0 or moments_bytes(shape, size, batch) <= limit_bytes
    assert batch == 250 or moments_bytes(shape, size, batch + 1) > limit_bytes
