from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosp.fleet import Board, DeviceProfile, Link, Work, cost, cost_range, idle_j, jitter
from cosp.fleet.cost import step_parts_s
from cosp.fleet.profiles import Spread

PROFILE = DeviceProfile(
    name="toy",
    title="A board whose figures are easy",
    mode="only",
    flops_per_s=100.0,
    half_batch=2.0,
    memory_bytes=1000,
    memory_bytes_per_s=10.0,
    launch_s=0.5,
    idle_w=1.0,
    load_w=5.0,
    cpu_cores=1,
)
BOARD = Board(
    client=0, profile=PROFILE, link=Link(name="toy", downlink_bytes_per_s=20.0, uplink_bytes_per_s=10.0, latency_s=1.0)
)
WORK = Work(steps=3, batch=6, step_flops=300.0, step_bytes=10.0, step_kernels=2, download_bytes=40, upload_bytes=40)

growable = [
    "step_flops",
    "step_bytes",
    "step_kernels",
    "load_bytes",
    "extra_bytes",
    "extra_kernels",
    "extra_flops",
    "steps",
    "download_bytes",
    "upload_bytes",
]


def test_a_task_by_hand():
    price = cost(BOARD, WORK)
    assert price.compute_s == pytest.approx(3 * 300 / (100 * 6 / 8))  # arithmetic binds: 4 s a step against 1 s and 1 s
    assert (price.download_s, price.upload_s) == (1 + 40 / 20, 1 + 40 / 10)
    assert price.energy_j == pytest.approx(5 * 12 + 1 * (3 + 5))
    assert price.total_s == pytest.approx(12 + 3 + 5)


@pytest.mark.parametrize(("field", "amount", "step_s"), [("step_bytes", 80.0, 8.0), ("step_kernels", 20, 10.0)])
def test_the_slowest_of_the_three_binds(field, amount, step_s):
    assert cost(BOARD, dataclasses.replace(WORK, **{field: amount})).compute_s == pytest.approx(3 * step_s)


def test_evaluation_is_priced_too():
    evaluated = cost(BOARD, dataclasses.replace(WORK, extra_flops=75.0))
    assert evaluated.compute_s == pytest.approx(cost(BOARD, WORK).compute_s + 1.0)


def test_where_nothing_overlaps_the_parts_add_up():
    serial = dataclasses.replace(BOARD, profile=dataclasses.replace(PROFILE, overlap=False))
    assert cost(serial, WORK).compute_s == pytest.approx(3 * (300 / (100 * 6 / 8) + 10 / 10 + 2 * 0.5))


@pytest.mark.parametrize("overlap", [True, False])
def test_loading_is_never_hidden(overlap):
    board = dataclasses.replace(BOARD, profile=dataclasses.replace(PROFILE, overlap=overlap))
    loading = cost(board, dataclasses.replace(WORK, load_bytes=20.0)).compute_s
    assert loading == pytest.approx(cost(board, WORK).compute_s + 3 * 20 / 10)


def test_a_cost_lies_in_its_range_and_a_measured_board_has_none():
    assert cost_range(BOARD, WORK) == (cost(BOARD, WORK), cost(BOARD, WORK))
    spread = Spread(flops_per_s=(0.5, 2.0), memory_bytes_per_s=(0.5, 1.5), launch_s=(0.5, 2.0))
    unsure = dataclasses.replace(BOARD, profile=dataclasses.replace(PROFILE, spread=spread))
    fast, slow = cost_range(unsure, WORK)
    assert fast.compute_s < cost(unsure, WORK).compute_s < slow.compute_s
    assert slow.compute_s == pytest.approx(2 * cost(unsure, WORK).compute_s)  # arithmetic binds, at half the rate
    assert fast.download_s == slow.download_s


def test_a_mixed_step_runs_at_the_half_precision_rate_and_judging_at_the_other():
    board = dataclasses.replace(BOARD, profile=dataclasses.replace(PROFILE, half_flops_per_s=200.0))
    work = dataclasses.replace(WORK, precision="mixed", extra_flops=75.0)
    assert cost(board, work).compute_s == pytest.approx(3 * 300 / (200 * 6 / 8) + 75 / (100 * 6 / 8))


def test_a_board_without_a_half_precision_rate_prices_no_mixed_step():
    with pytest.raises(ValueError, match="no half-precision rate"):
        cost(BOARD, dataclasses.replace(WORK, precision="mixed"))


def test_a_mixed_cost_has_the_range_of_its_own_rate():
    profile = dataclasses.replace(PROFILE, half_flops_per_s=200.0, spread=Spread(half_flops_per_s=(0.25, 2.0)))
    board, work = dataclasses.replace(BOARD, profile=profile), dataclasses.replace(WORK, precision="mixed")
    fast, slow = cost_range(board, work)
    assert slow.compute_s == pytest.approx(4 * cost(board, work).compute_s)  # arithmetic binds
    assert fast.compute_s == pytest.approx(3 * 1.0)  # 2 kernels of half a second bind, as long as 10 bytes


def test_the_parts_of_a_step_are_those_of_the_roofline():
    assert step_parts_s(PROFILE, WORK) == {"arithmetic": 4.0, "memory": 1.0, "launches": 1.0}


def test_slowdown_and_jitter_multiply_compute_and_leave_transfers():
    slow = cost(dataclasses.replace(BOARD, slowdown=2.0), WORK, jitter=1.5)
    assert slow.compute_s == pytest.approx(3 * cost(BOARD, WORK).compute_s)
    assert slow.download_s == cost(BOARD, WORK).download_s


def test_waiting_draws_idle_watts():
    assert idle_j(BOARD, 7.0) == 7.0


@given(field=st.sampled_from(growable), factor=st.floats(1, 1e6))
def test_more_work_never_costs_less(field, factor):
    work = dataclasses.replace(WORK, extra_flops=10.0, extra_bytes=1.0, extra_kernels=1, load_bytes=1.0)
    more = dataclasses.replace(work, **{field: type(getattr(work, field))(getattr(work, field) * factor)})
    before, after = cost(BOARD, work), cost(BOARD, more)
    assert after.total_s >= before.total_s
    assert after.energy_j >= before.energy_j


@given(st.integers(1, 512))
def test_larger_batches_never_run_at_a_lower_rate(batch):
    def seconds_per_sample(b):
        return cost(BOARD, dataclasses.replace(WORK, batch=b, step_flops=1e4 * b)).compute_s / b

    assert seconds_per_sample(batch + 1) <= seconds_per_sample(batch) * (1 + 1e-12)


def test_jitter_is_exactly_one_without_spread_and_has_median_one():
    rng = np.random.default_rng(0)
    assert jitter(rng, 0.0) == 1.0
    draws = [jitter(rng, 0.1) for _ in range(2000)]
    assert np.median(draws) == pytest.approx(1.0, abs=0.01)
    assert np.std(np.log(draws)) == pytest.approx(0.1, rel=0.1)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_a_jitter_that_is_no_factor_is_refused(value):
    with pytest.raises(ValueError, match="jitter must be finite and > 0"):
        cost(BOARD, WORK, jitter=value)


@pytest.mark.parametrize(
    ("field", "value"), [("batch", 0), ("step_flops", math.nan), ("upload_bytes", -1), ("steps", -1)]
)
def test_work_that_cannot_be_is_refused(field, value):
    with pytest.raises(ValueError, match=f"{field} must be"):
        dataclasses.replace(WORK, **{field: value})


def test_a_negative_spread_is_refused():
    with pytest.raises(ValueError, match="sigma must be finite and >= 0"):
        jitter(np.random.default_rng(0), -0.1)
