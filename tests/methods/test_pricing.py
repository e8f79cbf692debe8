from __future__ import annotations

from dataclasses import replace

import pytest
from small_models import SMALL, same_units

from cosp.fleet.fleet import load_fleet
from cosp.methods.pricing import drops, price, work_of
from cosp.submodel.footprint import footprint
from cosp.task.demand import download_bytes, judging_batch, peak_memory_bytes
from cosp.task.scoring import ScoreSettings
from cosp.task.task import Task
from cosp.task.training import TrainSettings

NARROW = same_units(2, heads=(1,), attention_rows=(0, 3), hidden=(2, 4), ffn_rows=(5,))
TRAIN = Task("train", 0, 3, 1, 0, SMALL, NARROW, training=TrainSettings(epochs=3, batch_size=16))
SCORE = replace(TRAIN, kind="score", plan=SMALL.full_plan(2), scoring=ScoreSettings(samples=40, batch_size=8))
BOARD = load_fleet("weak16").boards[0]


def test_a_training_task_by_hand():
    work, size = work_of(TRAIN, samples=50, test_samples=5), footprint(SMALL, NARROW.counts)
    step, judged = size.training_step(16, "adamw"), size.evaluation_step(5)
    assert (work.steps, work.batch) == (3 * 4, 16)  # 50 samples are four batches
    assert (work.step_flops, work.step_bytes, work.step_kernels) == (step.flops, step.bytes_moved, step.kernels)
    assert work.load_bytes == 3 * 16 * 4 * 16  # images of 4 x 4
    assert work.extra_flops == pytest.approx(2 * judged.flops)  # judges itself before and after
    assert work.download_bytes == download_bytes(TRAIN)
    assert work.upload_bytes == 4 * size.parameters


MIXED = TrainSettings(epochs=3, batch_size=16, precision="mixed")


def test_a_mixed_training_task_by_hand():
    task, size = replace(TRAIN, training=MIXED), footprint(SMALL, NARROW.counts, "mixed")
    work, step = work_of(task, samples=50, test_samples=5), size.training_step(16, "adamw")
    assert (work.step_flops, work.step_bytes, work.step_kernels) == (step.flops, step.bytes_moved, step.kernels)
    assert work.precision == "mixed"
    assert peak_memory_bytes(task) == size.training_bytes(16, "adamw")
    judged = footprint(SMALL, NARROW.counts).evaluation_step(judging_batch(task))
    assert work.extra_flops == pytest.approx(2 * 5 / judging_batch(task) * judged.flops)


def test_importance_learning_is_float32_whatever_is_asked():
    asked = replace(SCORE, training=MIXED)
    assert work_of(asked, samples=50, test_samples=5) == work_of(SCORE, samples=50, test_samples=5)
    assert peak_memory_bytes(asked) == peak_memory_bytes(SCORE)
    squares = ScoreSettings(how="squared_gradient", samples=40, batch_size=8)
    plain, mixed = (replace(task, scoring=squares) for task in (SCORE, asked))
    assert work_of(mixed, samples=50, test_samples=5) == work_of(plain, samples=50, test_samples=5)


def test_a_score_task_by_hand():
    size = footprint(SMALL, SCORE.plan.counts)
    work = work_of(SCORE, samples=50, test_samples=5)
    step = size.scoring_step(8)
    assert (work.steps, work.batch, work.extra_flops) == (5, 8, 0)
    assert (work.step_flops, work.step_bytes, work.step_kernels) == (step.flops, step.bytes_moved, step.kernels)
    assert work_of(SCORE, samples=10, test_samples=5).steps == 2
    gates = replace(SCORE, scoring=ScoreSettings(how="gates", samples=40, batch_size=8, gate_epochs=5))
    assert work_of(gates, samples=50, test_samples=5).steps == 25
    magnitude = replace(SCORE, scoring=ScoreSettings(how="magnitude"))
    assert work_of(magnitude, samples=50, test_samples=5).steps == 0  # reads weights, no data


def test_a_smaller_micro_batch_takes_more_steps():
    in_threes = replace(SCORE, scoring=ScoreSettings(samples=20, batch_size=8, micro_batch=3))
    work = work_of(in_threes, samples=50, test_samples=5)
    assert (work.steps, work.batch) == (3 + 3 + 2, 3)  # batches of 8, 8 and 4


def test_scoring_does_not_depend_on_the_optimizer():
    sgd = replace(SCORE, training=TrainSettings(optimizer="sgd"))
    assert work_of(sgd, samples=50, test_samples=5) == work_of(SCORE, samples=50, test_samples=5)


def test_a_score_task_needs_settings():
    with pytest.raises(ValueError, match="scoring settings"):
        work_of(replace(SCORE, scoring=None), samples=1, test_samples=1)


def seconds(task: Task, sigma: float) -> float:
    return price(task, BOARD, samples=50, test_samples=5, sigma=sigma).compute_s


def test_a_price_is_a_function_of_the_task():
    assert seconds(TRAIN, 0.3) == seconds(TRAIN, 0.3)
    others = [replace(TRAIN, version=4), replace(TRAIN, client=1), replace(TRAIN, turn=2), replace(TRAIN, seed=1)]
    assert len({seconds(task, 0.3) for task in (TRAIN, *others)}) == 5
    assert len({seconds(task, 0.0) for task in (TRAIN, *others)}) == 1


def test_a_deeper_submodel_takes_more_time_and_one_of_more_heads_and_hidden_units_no_less():
    assert seconds(replace(TRAIN, plan=SMALL.full_plan(3)), 0.0) > seconds(replace(TRAIN, plan=SMALL.full_plan(2)), 0.0)
    wider = same_units(2, heads=(0, 1), attention_rows=(0, 3), hidden=(1, 2, 4), ffn_rows=(5,))
    assert seconds(replace(TRAIN, plan=wider), 0.0) >= seconds(TRAIN, 0.0)


def test_tasks_are_lost_as_often_as_the_board_drops_them():
    tasks = [replace(TRAIN, version=version) for version in range(400)]
    assert all(drops(task, BOARD) is None for task in tasks)
    lost = [drops(task, replace(BOARD, dropout=0.25)) for task in tasks]
    shares = [share for share in lost if share is not None]
    assert len(shares) / 400 == pytest.approx(0.25, abs=0.06)
    assert all(0 <= share < 1 for share in shares)
    assert all(drops(task, replace(BOARD, dropout=1.0)) is not None for task in tasks)
