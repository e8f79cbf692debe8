from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from small_models import SMALL, shapes_and_plans

from cosp.client.task import ScoreSettings, Task
from cosp.client.training import TrainSettings
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
    assert Task.from_json(task.to_json()) == task
    assert Task.from_json(replace(task, scoring=None).to_json()) == replace(task, scoring=None)


def test_a_tasks_json_holds_no_list_of_units():
    assert len(TASK.to_json()) < 1500
    assert isinstance(json.loads(TASK.to_json())["plan"], str)


def test_bytes_on_the_wire_by_hand():
    plan_bytes = len(TASK.plan.to_bytes(SMALL.sizes))
    assert TASK.download_bytes == 4 * TASK.parameters + plan_bytes
    assert TASK.upload_bytes == 4 * TASK.parameters
    assert replace(TASK, kind="score").upload_bytes == 4 * 2 * (2 + 8 + 6 + 8)


@pytest.mark.parametrize(("name", "value"), [("how", "luck"), ("samples", 0), ("batch_size", 0), ("gate_epochs", 0)])
def test_settings_that_score_nothing_are_refused(name, value):
    with pytest.raises(ValueError, match=f"^{name} must be"):
        ScoreSettings(**{name: value})
