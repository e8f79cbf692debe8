from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import SMALL, same_units, shapes_and_plans

from cosp.errors import ConfigError
from cosp.submodel.footprint import footprint
from cosp.task.demand import download_bytes, judging_batch, peak_memory_bytes, upload_bytes
from cosp.task.local import LocalSettings
from cosp.task.scoring import ScoreSettings
from cosp.task.serial import task_from_json, task_to_json
from cosp.task.task import Task
from cosp.task.training import TrainSettings
from cosp.transfer import TransferSettings

TASK = Task(
    kind="train",
    client=3,
    version=7,
    turn=2,
    seed=1,
    shape=SMALL,
    plan=SMALL.full_plan(2),
    keep=0.25,
    training=TrainSettings(epochs=1, clip_norm=None),
    transfer=TransferSettings(teacher="deepest"),
    scoring=ScoreSettings(how="gates"),
)


@settings(max_examples=30)
@given(shapes_and_plans())
def test_a_task_survives_json(shape_and_plan):
    shape, plan = shape_and_plan
    task = replace(TASK, shape=shape, plan=plan)
    assert task_from_json(task_to_json(task)) == task
    assert task_from_json(task_to_json(replace(task, scoring=None))) == replace(task, scoring=None)


def test_smaller_submodels_and_local_settings_travel_with_a_task():
    within = (SMALL.full_plan(1), same_units(2, heads=(1,), attention_rows=(0,), hidden=(2,), ffn_rows=(5,)))
    task = replace(TASK, within=within, local=LocalSettings(view="fiarse", kept=0.5), present_labels=True)
    assert task_from_json(task_to_json(task)) == task
    plan_bytes = sum(len(plan.to_bytes(SMALL.sizes)) for plan in (task.plan, *within))
    assert download_bytes(task) == 4 * task.parameters + plan_bytes


def test_a_tasks_json_holds_no_list_of_units():
    assert len(task_to_json(TASK)) < 1500
    assert isinstance(json.loads(task_to_json(TASK))["plan"], str)


def test_bytes_on_the_wire_by_hand():
    plan_bytes = TASK.plan.depth * (1 + 1 + 1 + 1)  # 2, 8, 6 and 8 units: a bit each, and each group begins a byte
    assert download_bytes(TASK) == 4 * TASK.parameters + plan_bytes
    assert upload_bytes(TASK) == 4 * TASK.parameters
    assert upload_bytes(replace(TASK, kind="score")) == 4 * 2 * (2 + 8 + 6 + 8)


SIZE = footprint(SMALL, SMALL.full_plan().counts)


@given(st.integers(0, 40_000))
def test_scoring_that_is_made_to_fit_fits_and_holds_no_fewer_samples_than_it_could(limit_bytes):
    if SIZE.scoring_bytes(1) > limit_bytes:
        with pytest.raises(ConfigError, match="even one sample at a time"):
            ScoreSettings(batch_size=16).within(SIZE, limit_bytes)
        return
    fitted = ScoreSettings(batch_size=16).within(SIZE, limit_bytes)
    assert SIZE.scoring_bytes(fitted.held_samples) <= limit_bytes
    assert fitted.held_samples == 16 or SIZE.scoring_bytes(fitted.held_samples + 1) > limit_bytes


def test_scoring_that_fits_is_left_as_it_is():
    settings = ScoreSettings()
    assert settings.within(SIZE, SIZE.scoring_bytes(settings.batch_size)) is settings
    weights_alone = ScoreSettings(how="magnitude")
    assert weights_alone.within(SIZE, SIZE.scoring_bytes(0)) is weights_alone
    with pytest.raises(ConfigError, match="full width"):
        weights_alone.within(SIZE, SIZE.scoring_bytes(0) - 1)


@pytest.mark.parametrize("batch", [1, 4, 32])
def test_judging_itself_fits_where_training_fits(batch):
    task = replace(TASK, training=TrainSettings(batch_size=batch))
    size = footprint(SMALL, TASK.plan.counts)
    beside_gradients = size.evaluation_bytes(judging_batch(task)) + 4 * size.parameters
    assert judging_batch(task) == 1 or beside_gradients <= peak_memory_bytes(task)


@pytest.mark.parametrize(
    ("name", "value"), [("how", "luck"), ("samples", 0), ("batch_size", 0), ("gate_epochs", 0), ("micro_batch", 0)]
)
def test_settings_that_score_nothing_are_refused(name, value):
    with pytest.raises(ValueError, match=f"^{name} must be"):
        ScoreSettings(**{name: value})
