from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from small_models import SMALL
from test_trainer import TRAIN, samples, weights_for

from cosp.task.privacy import PrivacySettings
from cosp.task.serial import task_from_json, task_to_json
from cosp.task.task import Task
from cosp.trainer.privacy import protect_, secret_generator
from cosp.trainer.samples import ClientSamples
from cosp.trainer.trainer import Trainer

HARDLY = PrivacySettings(clip=0.5, noise=1e-6)
PRIVATE = replace(TRAIN, training=replace(TRAIN.training, privacy=PrivacySettings(clip=0.5, noise=0.3)))


def trainer(**kind: bool) -> Trainer:
    return Trainer({0: ClientSamples(samples(10, 0), samples(4, 1))}, {}, device="cpu", **kind)


def change(task: Task, **kind: bool) -> torch.Tensor:
    return trainer(**kind).run(task, weights_for(task))[1]


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


@pytest.mark.parametrize("norm", [0.1, 0.5, 7.0, 1e30])
def test_an_update_is_as_long_as_the_clip_at_most(norm):
    update = torch.randn(1000, generator=generator())
    direction = update / update.norm()
    update = norm * direction
    found = protect_(update.clone(), HARDLY, generator())
    assert float(found.norm()) == pytest.approx(min(norm, 0.5), rel=1e-3)
    assert float(found / found.norm() @ direction) == pytest.approx(1.0, abs=1e-4)


def test_every_entry_gets_noise_of_the_deviation_that_is_said():
    settings = PrivacySettings(clip=2.0, noise=1.5)
    found = protect_(torch.zeros(1 << 21), settings, generator())  # noise is drawn a million entries at a time
    for part in found.split(1 << 20):
        assert float(part.std()) == pytest.approx(3.0, rel=0.01)
    assert len(found.unique()) > 0.9 * len(found)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 3e38])
def test_training_that_diverged_tells_nothing(value):
    update = torch.full((1000,), value)
    found = protect_(update, PrivacySettings(clip=1.0, noise=1.0), generator())
    assert torch.isfinite(found).all()
    assert float(found.norm()) < 60


def test_a_simulation_repeats_its_noise_and_another_task_has_other_noise():
    assert torch.equal(change(PRIVATE), change(PRIVATE))
    plain, later = change(TRAIN), replace(PRIVATE, turn=1)
    noise = change(PRIVATE) - protect_(plain, HARDLY, generator())
    assert float(noise.std()) == pytest.approx(0.15, rel=0.3)
    assert not torch.equal(change(later), change(PRIVATE))


def test_nobody_can_draw_a_boards_noise_again():
    assert not torch.equal(change(PRIVATE, secretive=True), change(PRIVATE, secretive=True))
    assert secret_generator().initial_seed() != secret_generator().initial_seed()


def test_without_privacy_a_board_sends_what_it_found():
    assert torch.equal(change(TRAIN, secretive=True), change(TRAIN))


def test_the_settings_travel_with_the_task():
    assert task_from_json(task_to_json(PRIVATE)) == PRIVATE
    assert PRIVATE.shape == SMALL


@pytest.mark.parametrize(
    ("wrong", "rule"),
    [
        ({"clip": 0.0}, "clip must be > 0, got 0.0"),
        ({"noise": -1.0}, "noise must be > 0, got -1.0"),
        ({"delta": 1.0}, r"delta must lie in \(0, 1\), got 1.0"),
    ],
)
def test_settings_that_protect_nothing_are_refused(wrong, rule):
    with pytest.raises(ValueError, match=rule):
        PrivacySettings(**{"clip": 1.0, "noise": 1.0, **wrong})
