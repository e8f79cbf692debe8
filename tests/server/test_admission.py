from __future__ import annotations

from dataclasses import replace

import pytest

from cosp.fleet import load_fleet, speed_of
from cosp.fleet.introduction import Introduction
from cosp.server.admission import Admission

FLEET = {"boards": [
    {"count": 3, "device": "jetson-nano", "link": "wifi"},
    {"device": "jetson-nano", "link": "wifi", "shares": 3},
    {"device": "jetson-nano", "link": "wifi", "samples": 700},
    {"device": "jetson-nano", "link": "wifi", "keep": 0.25},
]}  # fmt: skip
BOARDS = load_fleet(FLEET).boards


def told(client: int, samples: int, **changes: object) -> Introduction:
    known = Introduction(
        client=client, board="b", link="own", keep=None, memory_bytes=10**9, samples=samples, test_samples=10,
        class_counts=(samples,),
    )  # fmt: skip
    return replace(known, **changes)


def admission(*claims: int, simulated: bool = False) -> Admission:
    found = Admission(BOARDS, simulated=simulated)
    found.meet([told(client, samples) for client, samples in enumerate(claims)])
    return found


def samples(found: Admission, client: int, claim: int) -> int:
    return found.admit(told(client, claim)).introduction.samples


def test_more_than_twice_the_middle_board_s_samples_do_not_count():
    found = admission(100, 120, 10**9)
    assert [samples(found, 0, claim) for claim in (1, 100, 240, 241, 10**9)] == [1, 100, 240, 240, 240]


def test_of_two_boards_the_smaller_is_the_middle():
    assert samples(admission(100, 10**9), 1, 10**9) == 200


def test_a_board_of_several_shares_may_have_as_many_times_the_data():
    found = admission(100, 100, 100, 300)
    assert samples(found, 3, 10**9) == 600


def test_the_fleet_file_s_number_counts_before_any_median_and_in_simulation_too():
    for found in (admission(100, 100, 100), admission(100, 100, 100, simulated=True)):
        assert [samples(found, 4, claim) for claim in (650, 700, 701)] == [650, 700, 700]


def test_a_simulated_board_is_believed():
    found = admission(100, 100, 10**9, simulated=True)
    assert found.admit(told(2, 10**9)).claimed == {}


def test_a_claim_stays_beside_what_counts():
    assert admission(100, 100, 100).admit(told(0, 900, idle_w=1e6)).claimed == {"samples": 900, "idle_w": 1e6}
    assert admission(100, 100, 100).admit(told(0, 150, idle_w=1.0)).claimed == {}


def test_no_task_takes_more_joules_or_seconds_than_it_was_out():
    watts = 2 * BOARDS[0].profile.load_w
    row = {"client": 0, "sent_s": 10.0, "arrived_s": 14.0, "energy_j": 1e9, "compute_s": 3.0, "wall_step_s": 1e308}
    found = admission(100).row(row)
    assert (found["energy_j"], found["compute_s"], found["wall_step_s"]) == (pytest.approx(4 * watts), 3.0, 4.0)
    assert found["claimed"] == {"energy_j": 1e9, "wall_step_s": 1e308}
    honest = {**row, "energy_j": 4.0, "wall_step_s": 0.1}
    assert admission(100).row(honest) is honest


def test_a_board_is_no_faster_than_the_fleet_s_but_may_be_slower():
    own = speed_of(BOARDS[0])
    fast = replace(own, flops_per_s=own.flops_per_s * 100, slowdown=0.01, link=replace(own.link, latency_s=0.0))
    slow = replace(own, flops_per_s=own.flops_per_s / 2, slowdown=3.0)
    for claim, counts in ((fast, own), (slow, slow), (own, own)):
        budget = told(0, 100, speed=claim).budget
        assert admission(100).budget(0, budget).speed == counts


MEMORY = BOARDS[0].profile.memory_bytes


@pytest.mark.parametrize(
    ("client", "own", "counts", "planned"),
    [
        (5, None, 0.25, {}),  # the fleet file's
        (5, 0.5, 0.25, {}),  # more than that is not given
        (5, 0.1, 0.1, {"keep": 0.25}),  # less is, and told
        (0, None, None, {}),  # as much as the memory holds
        (0, 0.5, 0.5, {"keep": None}),
    ],
)
def test_a_board_keeps_what_the_fleet_file_plans_and_its_own_limit_only_lowers_it(client, own, counts, planned):
    found = admission(100).admit(told(client, 100, keep=own, memory_bytes=2 * MEMORY))
    assert (found.introduction.keep, found.introduction.memory_bytes) == (counts, MEMORY)
    assert found.planned == planned
    assert found.claimed == ({"keep": 0.5} if own == 0.5 and client == 5 else {})
    later = admission(100).budget(client, told(client, 100, keep=own, memory_bytes=2 * MEMORY).budget)
    assert (later.keep, later.memory_bytes) == (counts, MEMORY)


def test_less_memory_than_the_fleet_file_plans_with_is_told():
    found = admission(100).admit(told(5, 100, memory_bytes=MEMORY // 2))
    assert found.introduction.memory_bytes == MEMORY // 2
    assert found.planned == {"memory_bytes": MEMORY}


def test_a_simulated_board_s_budget_is_its_own():
    found = admission(100, simulated=True).admit(told(5, 100, keep=0.5, memory_bytes=2 * MEMORY))
    assert (found.introduction.keep, found.introduction.memory_bytes, found.planned) == (0.5, 2 * MEMORY, {})
