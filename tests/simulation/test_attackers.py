"""What attackers do, on numbers small enough to check by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from small_models import TINY

from cosp.data.poison import flipped, triggered
from cosp.fleet import load_fleet
from cosp.fleet.attack import Attack
from cosp.fleet.board import Board
from cosp.simulation.attackers import Attackers, claimed
from cosp.task.compression import CompressionSettings
from cosp.task.task import Task

TASK = Task("train", 1, 0, 0, 0, TINY, TINY.full_plan())
HONEST: Board = load_fleet({"boards": [{"count": 3, "device": "jetson-nano", "link": "wifi"}]}).boards[1]


def reply(attack: Attack, task: Task = TASK, sent_s: float = 0.0) -> tuple[dict[str, Any], torch.Tensor]:
    board = replace(HONEST, attack=attack)
    vector = torch.linspace(-1, 1, task.parameters)
    return Attackers([HONEST, board]).reply(task, board, sent_s, {"samples": 7}, vector)


@pytest.mark.parametrize(
    ("kind", "factor", "times"), [("sign_flip", 1.0, -1.0), ("sign_flip", 10.0, -10.0), ("scale", 1000.0, 1000.0)]
)
def test_an_update_is_multiplied(kind: Any, factor: float, times: float):
    facts, vector = reply(Attack(kind=kind, factor=factor))
    torch.testing.assert_close(vector, times * torch.linspace(-1, 1, TASK.parameters))
    assert facts == {"samples": 7}


def test_noise_is_as_large_as_the_update_times_the_factor_and_drawn_anew_at_every_version():
    honest = torch.linspace(-1, 1, TASK.parameters)
    attack = Attack(kind="noise", factor=2.0)
    first, second, later = (reply(attack, task)[1] for task in (TASK, TASK, replace(TASK, version=1)))
    assert torch.equal(first, second)
    assert not torch.equal(first, later)
    assert float((first - honest).square().mean().sqrt()) == pytest.approx(
        2 * float(honest.square().mean().sqrt()), rel=0.1
    )


def test_what_is_changed_can_travel_as_whole_numbers():
    packed = replace(TASK, compression=CompressionSettings(up="int8"))
    _, vector = reply(Attack(kind="scale", factor=1000.0), packed)
    for span in packed.spans.values():
        part = vector[span.start : span.stop].double()
        unit = float(part.abs().max()) / 127
        exponent = np.ceil(np.log2(unit)) if unit else 0
        assert bool((part / 2.0**exponent == (part / 2.0**exponent).round()).all())


def test_scores_and_moments_are_sent_as_they_are():
    for kind in ("score", "moments"):
        _, vector = reply(Attack(kind="sign_flip"), replace(TASK, kind=kind))
        assert torch.equal(vector, torch.linspace(-1, 1, TASK.parameters))


def test_nothing_is_done_before_its_time():
    assert torch.equal(reply(Attack(kind="sign_flip", at_s=5.0), sent_s=4.9)[1], torch.linspace(-1, 1, TASK.parameters))
    assert reply(Attack(kind="lie_samples", factor=10.0, at_s=5.0), sent_s=5.0)[0] == {"samples": 70}


def test_who_attacks_by_its_data_has_them_done_by_its_double():
    board = replace(HONEST, attack=Attack(kind="label_flip", at_s=5.0))
    attackers = Attackers([replace(HONEST, client=0), board])
    assert attackers.work(TASK, board, 4.9) is TASK
    assert attackers.work(TASK, board, 5.0) == replace(TASK, client=2)


def test_claims_are_whole():
    assert claimed(Attack(kind="lie_samples", factor=0.01), 7) == 1


def test_the_last_class_is_taught_for_the_first():
    assert flipped(np.array([0, 1, 4]), 5).tolist() == [4, 3, 0]


def test_a_trigger_is_a_square_in_the_lower_right_corner_and_its_images_are_copies():
    images = np.zeros((1, 1, 4, 4), dtype=np.float32)
    assert triggered(images, 9.0)[0, 0].tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 9, 9], [0, 0, 9, 9]]
    assert not images.any()
    assert (triggered(np.zeros((1, 3, 32, 32), dtype=np.float32), 1.0) > 0).sum() == 3 * 4 * 4
