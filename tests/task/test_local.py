from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_models import FASHION, SMALL, same_units
from tallies import Tally, peak_bytes

from cosp.methods.pricing import work_of
from cosp.models.flat import FlatModel
from cosp.submodel.budget import shape_for_rate
from cosp.submodel.footprint import Step, footprint
from cosp.submodel.plan import prefix_plan
from cosp.task.demand import download_bytes, peak_memory_bytes, training_step
from cosp.task.local import VIEWS, LocalSettings, cutting
from cosp.task.task import Task
from cosp.task.training import TrainSettings
from cosp.trainer.ordered import inside
from cosp.trainer.samples import Samples
from cosp.trainer.trainer import variation_of
from cosp.trainer.training import train
from cosp.transfer import TransferSettings

INNER = same_units(2, heads=(0,), attention_rows=(0, 1), hidden=(0, 1), ffn_rows=(0,))
PLAIN = Task("train", 0, 0, 0, 0, SMALL, SMALL.full_plan(2), training=TrainSettings(batch_size=8))
WHOLE = Task("train", 0, 0, 0, 0, FASHION, FASHION.full_plan(), training=TrainSettings(epochs=1, batch_size=16))
VARIANTS = {
    "proximal": replace(WHOLE, local=LocalSettings(proximal=0.1)),
    **{view: replace(WHOLE, local=LocalSettings(view=view, kept=0.5)) for view in VIEWS if view != "plain"},
    **{
        kind: replace(WHOLE, shape=replace(FASHION, variant=kind), local=LocalSettings(penalty=1.0, target=0.5))
        for kind in ("adaptive", "quantised")
    },
}
MASKED = sorted(set(VIEWS) - {"plain"})


def with_local(**settings: object) -> Task:
    return replace(PLAIN, local=LocalSettings(**settings))


@pytest.mark.parametrize("view", MASKED)
def test_a_masked_model_is_as_large_and_as_slow_as_the_whole_one_and_more(view):
    masked = with_local(view=view, kept=0.25)
    assert peak_memory_bytes(masked) > peak_memory_bytes(PLAIN)
    assert training_step(masked).flops == training_step(PLAIN).flops
    assert training_step(masked).bytes_moved > training_step(PLAIN).bytes_moved
    assert training_step(masked).kernels > training_step(PLAIN).kernels
    assert download_bytes(masked) == download_bytes(PLAIN)


def test_a_proximal_term_holds_and_reads_the_received_weights():
    prox = with_local(proximal=0.1)
    assert peak_memory_bytes(prox) == peak_memory_bytes(PLAIN) + 4 * PLAIN.parameters
    assert training_step(prox).bytes_moved == training_step(PLAIN).bytes_moved + 4 * 6 * PLAIN.parameters


def test_ordered_training_pays_for_the_largest_and_for_the_one_that_is_drawn():
    small = footprint(SMALL, INNER.counts)
    task = replace(with_local(distillation=0.5), within=(INNER, INNER))
    drawn = small.forward_backward(8) + cutting(PLAIN.size, small)
    plain = training_step(PLAIN)  # each of three is drawn in turn, the largest costs nothing more
    assert training_step(task).flops == pytest.approx(plain.flops + 2 / 3 * drawn.flops)
    assert training_step(task).bytes_moved == pytest.approx(plain.bytes_moved + 2 / 3 * drawn.bytes_moved)
    assert peak_memory_bytes(task) == peak_memory_bytes(PLAIN) + 4 * small.parameters


def test_ordered_training_without_a_teacher_pays_for_the_one_that_is_drawn():
    small = footprint(SMALL, INNER.counts)
    task = replace(with_local(distillation=0.0), within=(INNER,))
    own = PLAIN.size.forward_backward(8)
    expected = training_step(PLAIN).flops - own.flops + (own.flops + small.forward_backward(8).flops) / 2
    assert training_step(task).flops == pytest.approx(expected)


def test_a_task_is_priced_by_what_its_local_steps_do():
    plain, masked = (work_of(task, samples=50, test_samples=5) for task in (PLAIN, with_local(view="platon")))
    assert masked.step_bytes > plain.step_bytes
    assert masked.steps == plain.steps


@pytest.mark.parametrize(
    ("name", "value"), [("view", "blind"), ("kept", 1.5), ("proximal", -1.0), ("distillation", 2.0)]
)
def test_settings_that_mean_nothing_are_refused(name, value):
    with pytest.raises(ValueError, match=f"^{name} must"):
        LocalSettings(**{name: value})


def work(task: Task, steps: int) -> None:
    """Train ``steps`` steps, as a trainer does."""
    batch, shape = task.training.batch_size, task.shape
    rng = np.random.default_rng(0)
    x = rng.normal(size=(batch * steps, shape.channels, shape.image, shape.image)).astype(np.float32)
    received = torch.randn(task.parameters) / 20
    model = FlatModel(shape, task.plan, torch.device("cpu"))
    model.load(received)
    variation = variation_of(task, model)
    data = Samples(x, np.zeros(batch * steps, dtype=np.int64))
    train(model, data, settings=task.training, transfer=task.transfer, version=0, rng=rng, variation=variation)


def counted(task: Task) -> Step:
    """What one step really does, by the difference between four and two."""
    tallies = []
    for steps in (2, 4):
        with Tally() as tally:
            work(task, steps)
        tallies.append(tally)
    two, four = tallies
    return Step(0, (four.bytes_moved - two.bytes_moved) / 2, round((four.kernels - two.kernels) / 2))


@pytest.mark.parametrize("name", VARIANTS)
def test_what_local_steps_add_is_what_torch_counts(name):
    task = VARIANTS[name]
    found, plain = counted(task), counted(WHOLE)
    declared, without = training_step(task), training_step(WHOLE)
    assert declared.kernels - without.kernels == pytest.approx(found.kernels - plain.kernels, rel=0.05, abs=2)
    moved = found.bytes_moved - plain.bytes_moved
    assert declared.bytes_moved - without.bytes_moved == pytest.approx(moved, rel=0.15)


@pytest.mark.parametrize("name", ["proximal", "scaled"])
def test_beside_blocks_that_are_computed_twice_they_add_the_same(name):
    task, plain = (replace(one, training=replace(one.training, checkpointing=True)) for one in (VARIANTS[name], WHOLE))
    found, without = counted(task), counted(plain)
    added = training_step(task).kernels - training_step(plain).kernels
    assert added == pytest.approx(found.kernels - without.kernels, rel=0.05, abs=2)
    held, alone = (peak_bytes(lambda one=one: work(one, 3)) for one in (task, plain))
    assert peak_memory_bytes(task) - peak_memory_bytes(plain) == pytest.approx(held - alone, rel=0.15)
    assert peak_memory_bytes(task) < peak_memory_bytes(VARIANTS[name])


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_what_the_submodel_as_received_adds_as_a_teacher_is_what_torch_counts(depth):
    plain = replace(WHOLE, plan=FASHION.full_plan(depth))
    taught = replace(plain, transfer=TransferSettings(received=0.5))
    assert training_step(taught).kernels == counted(taught).kernels


@pytest.mark.parametrize("name", VARIANTS)
def test_the_memory_that_local_steps_add_is_what_torch_allocates(name):
    found, plain = (peak_bytes(lambda task=task: work(task, 3)) for task in (VARIANTS[name], WHOLE))
    declared = peak_memory_bytes(VARIANTS[name]) - peak_memory_bytes(WHOLE)
    assert declared == pytest.approx(found - plain, rel=0.15)


def test_cutting_a_submodel_out_costs_what_torch_counts():
    half = shape_for_rate(FASHION, 0.5, depth_share=0.0)
    inner = prefix_plan(half.counts, half.depth)
    own, alone = (FlatModel(FASHION, plan, torch.device("cpu")) for plan in (FASHION.full_plan(), inner))
    x = torch.zeros(16, 1, 28, 28)
    tallies = []
    for forward in (inside(own, FASHION, FASHION.full_plan(), inner), alone.module):
        with Tally() as tally:
            torch.stack([z.sum() for z in forward(x)]).sum().backward()
        tallies.append(tally)
    cut, plain = tallies
    declared = cutting(WHOLE.size, footprint(FASHION, inner.counts))
    assert declared.kernels == pytest.approx(cut.kernels - plain.kernels, rel=0.05)
    assert declared.bytes_moved == pytest.approx(cut.bytes_moved - plain.bytes_moved, rel=0.1)
