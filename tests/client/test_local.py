from __future__ import annotations

from dataclasses import replace

import pytest
from small_models import SMALL, same_units

from cosp.client.local import VIEWS, LocalSettings
from cosp.client.task import Task
from cosp.client.training import TrainSettings
from cosp.runtime.pricing import work_of
from cosp.submodel.footprint import footprint

INNER = same_units(2, heads=(0,), attention_rows=(0, 1), hidden=(0, 1), ffn_rows=(0,))
PLAIN = Task("train", 0, 0, 0, 0, SMALL, SMALL.full_plan(2), training=TrainSettings(batch_size=8))
MASKED = sorted(set(VIEWS) - {"plain"})


def with_local(**settings: object) -> Task:
    return replace(PLAIN, local=LocalSettings(**settings))


@pytest.mark.parametrize("view", MASKED)
def test_a_masked_model_is_as_large_and_as_slow_as_the_whole_one_and_more(view):
    masked = with_local(view=view, kept=0.25)
    assert masked.peak_memory_bytes > PLAIN.peak_memory_bytes
    assert masked.training_step.flops == PLAIN.training_step.flops
    assert masked.training_step.bytes_moved > PLAIN.training_step.bytes_moved
    assert masked.training_step.kernels > PLAIN.training_step.kernels
    assert masked.download_bytes == PLAIN.download_bytes


def test_a_proximal_term_reads_the_received_weights_that_are_held_anyway():
    prox = with_local(proximal=0.1)
    assert prox.peak_memory_bytes == PLAIN.peak_memory_bytes
    assert prox.training_step.bytes_moved == PLAIN.training_step.bytes_moved + 4 * 6 * PLAIN.parameters


def test_ordered_training_pays_for_the_largest_and_for_the_one_that_is_drawn():
    small = footprint(SMALL, INNER.counts)
    task = replace(with_local(distillation=0.5), within=(INNER, INNER))
    drawn = small.forward_backward(8)
    expected = PLAIN.training_step.flops + 2 / 3 * drawn.flops  # each of three in turn, the largest costs nothing more
    assert task.training_step.flops == pytest.approx(expected)
    assert task.peak_memory_bytes == PLAIN.peak_memory_bytes + 4 * small.parameters


def test_ordered_training_without_a_teacher_pays_for_the_one_that_is_drawn():
    small = footprint(SMALL, INNER.counts)
    task = replace(with_local(distillation=0.0), within=(INNER,))
    own = PLAIN.size.forward_backward(8)
    expected = PLAIN.training_step.flops - own.flops + (own.flops + small.forward_backward(8).flops) / 2
    assert task.training_step.flops == pytest.approx(expected)


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
