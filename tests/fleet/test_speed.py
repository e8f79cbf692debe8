from __future__ import annotations

import dataclasses
import json
import math

import pytest

from cosp.fleet import Speed, Work, cost, fleet_names, load_fleet, speed_of, task_s

WORK = Work(
    steps=7, batch=16, step_flops=3e9, step_bytes=2e8, step_kernels=400, load_bytes=1e5, extra_flops=1e9,
    extra_bytes=1e7, extra_kernels=90, download_bytes=800_000, upload_bytes=700_000,
)  # fmt: skip


@pytest.mark.parametrize("name", [name for name in fleet_names() if name != "mixed10000"])
def test_what_a_board_declares_prices_a_task_to_the_last_bit(name):
    for board in load_fleet(name).boards:
        assert task_s(speed_of(board), WORK) == cost(board, WORK).total_s


def test_what_a_board_declares_prices_a_mixed_task_to_the_last_bit():
    mixed = dataclasses.replace(WORK, precision="mixed")
    for board in load_fleet("paper16").boards:
        assert task_s(speed_of(board), mixed) == cost(board, mixed).total_s


def test_a_busy_board_declares_that_it_is():
    board = dataclasses.replace(load_fleet("paper16").boards[2], slowdown=3.0)
    assert task_s(speed_of(board), WORK) == cost(board, WORK).total_s


def test_a_speed_survives_json():
    speed = speed_of(load_fleet("paper16").boards[2])
    assert Speed.from_json(json.loads(json.dumps(dataclasses.asdict(speed)))) == speed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"flops_per_s": 0.0}, "flops_per_s must be finite and > 0, got 0.0"),
        ({"flops_per_s": math.inf}, "flops_per_s must be finite"),
        ({"slowdown": math.nan}, "slowdown must be finite and > 0, got nan"),
        ({"half_flops_per_s": 0.0}, "half_flops_per_s must be finite and > 0 or None, got 0.0"),
        ({"launch_s": -1.0}, "launch_s must be finite and >= 0, got -1.0"),
    ],
)
def test_a_speed_that_cannot_be_is_refused(change, message):
    speed = speed_of(load_fleet("paper16").boards[2])
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(speed, **change)
