from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from cosp.calibration.fit import Rates, Timing, fit
from cosp.fleet import Work

TRUE = Rates(flops_per_s=1e10, half_batch=3.0, memory_bytes_per_s=1e9, launch_s=1e-5)
STEPS = [
    Work(steps=1, batch=batch, step_flops=flops * batch, step_bytes=moved * batch, step_kernels=kernels, load_bytes=9.0)
    for batch in (1, 4, 32)
    for flops, moved, kernels in ((1e6, 1e5, 90), (1e8, 1e6, 90), (1e7, 3e6, 330))
]


def timed(rates: Rates, noise: float = 0.0) -> list[Timing]:
    rng = np.random.default_rng(0)
    return [Timing(step=step, seconds=rates.step_s(step) * math.exp(noise * rng.standard_normal())) for step in STEPS]


def test_a_fit_finds_the_rates_that_made_the_times():
    assert dataclasses.astuple(fit(timed(TRUE))) == pytest.approx(dataclasses.astuple(TRUE), rel=1e-6)


def test_noise_moves_the_rates_by_about_as_much():
    found = fit(timed(dataclasses.replace(TRUE, half_batch=0.0), noise=0.05))
    assert found.flops_per_s == pytest.approx(TRUE.flops_per_s, rel=0.15)
    assert found.launch_s == pytest.approx(TRUE.launch_s, rel=0.15)


def test_no_constant_is_negative_and_what_costs_nothing_is_infinitely_fast():
    free = Rates(flops_per_s=1e10, half_batch=0.0, memory_bytes_per_s=math.inf, launch_s=0.0)
    found = fit([*timed(free, noise=0.2)])
    assert found.flops_per_s > 0
    assert found.memory_bytes_per_s > 0
    assert found.half_batch >= 0
    assert found.launch_s >= 0
    assert fit(timed(free)).step_s(STEPS[0]) == pytest.approx(free.step_s(STEPS[0]))


def test_fewer_timings_than_constants_are_refused():
    with pytest.raises(ValueError, match="at least 4, got 3"):
        fit(timed(TRUE)[:3])


def test_times_that_do_not_grow_with_the_batch_give_no_half_batch():
    """They ask for b0 without a rate, which means nothing: b0 / rate would be a price, b0 itself infinite."""
    found = fit([Timing(step=step, seconds=step.step_flops / step.batch * 1e-9) for step in STEPS])
    assert found.half_batch == 0.0
    assert all(value >= 0 for value in dataclasses.astuple(found))
