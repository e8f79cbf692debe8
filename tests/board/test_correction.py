from __future__ import annotations

import math

import pytest

from cosp.board.correction import Observed, corrected
from cosp.fleet import load_profile
from cosp.fleet.cost import Work, step_s

NANO = load_profile("jetson-nano")
STEPS = (  # bound by arithmetic, by memory, by launches
    Work(steps=1, batch=32, step_flops=1e11, step_bytes=1e6, step_kernels=10, load_bytes=1e5),
    Work(steps=1, batch=4, step_flops=1e6, step_bytes=1e10, step_kernels=10),
    Work(steps=1, batch=8, step_flops=1e6, step_bytes=1e6, step_kernels=5000),
)


def seen(*slowness: float) -> list[Observed]:
    return [Observed(predicted_s=2.0, measured_s=2.0 * factor) for factor in slowness]


@pytest.mark.parametrize("work", STEPS)
@pytest.mark.parametrize("board", ["jetson-nano", "raspberry-pi-5"])  # a GPU's roofline, a CPU's sum
def test_every_step_is_predicted_as_much_longer_as_the_median_task_was(board: str, work: Work) -> None:
    profile = load_profile(board)
    better = corrected(profile, seen(1.5, 1.6, 1.4, 1.5, 99.0))
    assert step_s(better, work) == pytest.approx(1.5 * step_s(profile, work))


def test_a_profile_that_was_right_stays() -> None:
    better = corrected(NANO, seen(1.0, 1.0, 1.0))
    assert (better.flops_per_s, better.launch_s) == (NANO.flops_per_s, NANO.launch_s)
    assert better.spread.flops_per_s == (1.0, 1.0)
    assert better.calibration == "corrected by 1.00 from 3 tasks that it trained"


def test_the_range_is_what_was_seen() -> None:
    better = corrected(NANO, seen(*(1 + tenth / 10 for tenth in range(11))))  # 1.0 to 2.0, the median 1.5
    slowest, fastest = (better.flops_per_s * factor for factor in better.spread.flops_per_s)
    assert NANO.flops_per_s / slowest == pytest.approx(1.9)
    assert NANO.flops_per_s / fastest == pytest.approx(1.1)


def test_two_tasks_say_too_little() -> None:
    assert corrected(NANO, seen(3.0, 3.0)) is NANO


@pytest.mark.parametrize("measured_s", [0.0, -1.0, math.nan, math.inf])
def test_a_step_takes_time(measured_s: float) -> None:
    with pytest.raises(ValueError, match="measured_s must be finite and > 0"):
        Observed(predicted_s=1.0, measured_s=measured_s)
