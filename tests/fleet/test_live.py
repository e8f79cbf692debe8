from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosp.fleet import Board, Change, Cost, Errand, Link, LiveFleet, ServerLink, Throttle, Timeline, Trace, load_profile

PROFILE = replace(load_profile("jetson-nano"), idle_w=1.0, load_w=5.0)
LINK = Link(name="toy", downlink_bytes_per_s=10.0, uplink_bytes_per_s=5.0, latency_s=1.0)
BOARD = Board(client=0, profile=PROFILE, link=LINK)
TASK = Errand(
    client=0,
    cost=Cost(download_s=11.0, compute_s=20.0, upload_s=21.0, energy_j=132.0),
    bytes_down=100,
    bytes_up=100,
)
OPEN = ServerLink()


class World:
    """A live fleet that notes when tasks end and when boards come on."""

    def __init__(self, *boards: Board, server: ServerLink = OPEN, begin: bool = True) -> None:
        self.timeline = Timeline()
        self.ends = []
        self.ups = []
        self.fleet = LiveFleet(
            boards,
            self.timeline,
            server=server,
            on_turn=lambda client, on: self.ups.append(self.timeline.now_s) if on else None,
        )
        if begin:
            self.fleet.begin()

    def note(self, client, end):
        self.ends.append((self.timeline.now_s, client, end))

    def send(self, errand):
        self.fleet.start(errand, partial(self.note, errand.client))

    def send_at(self, time_s, errand):
        self.timeline.at(time_s, lambda: self.send(errand))

    def run(self, until_s=1e9):
        self.timeline.run(until_s)
        return self.ends


def on(*windows):
    return Trace(windows=windows)


def test_an_undisturbed_task_takes_what_it_was_priced():
    world = World(BOARD)
    world.send(TASK)
    ((end_s, _, end),) = world.run()
    assert (end_s, end.cost, end.bytes_down, end.bytes_up, end.lost) == (52.0, TASK.cost, 100, 100, None)


@given(st.floats(0, 1e4), st.floats(0, 1e3), st.floats(0, 1e3), st.floats(0, 1e3))
def test_and_ends_at_exactly_that_time(sent_s, download_s, compute_s, upload_s):
    cost = Cost(download_s=download_s, compute_s=compute_s, upload_s=upload_s, energy_j=0)
    world = World(BOARD)
    world.send_at(sent_s, replace(TASK, cost=cost))
    assert [end_s for end_s, _, _ in world.run()] == [sent_s + cost.total_s]


@pytest.mark.parametrize(
    ("off_s", "spans", "moved", "energy_j"),
    [
        (6.0, (6.0, 0.0, 0.0), (50, 0), 6.0),  # 5 s of bytes after 1 s of latency
        (21.0, (11.0, 10.0, 0.0), (100, 0), 11.0 + 50.0),
        (41.0, (11.0, 20.0, 10.0), (100, 45), 21.0 + 100.0),
        (52.0, (11.0, 20.0, 21.0), (100, 100), 132.0),  # at the very moment of its end
    ],
)
def test_a_board_that_goes_off_loses_its_task(off_s, spans, moved, energy_j):
    world = World(replace(BOARD, availability=on((0.0, off_s), (100.0, 200.0))))
    world.send(TASK)
    ((end_s, _, end),) = world.run(150.0)
    assert (end_s, end.lost, (end.bytes_down, end.bytes_up)) == (off_s, "off", moved)
    assert (end.cost.download_s, end.cost.compute_s, end.cost.upload_s, end.cost.energy_j) == (*spans, energy_j)
    assert world.ups == [100.0]  # and comes back
    assert world.fleet.is_on(0)
    assert world.fleet.off_s()[0] == 100.0 - off_s


def test_a_board_is_off_before_between_and_after_its_windows():
    world = World(replace(BOARD, availability=on((10.0, 20.0), (30.0, 40.0))))
    seen = []
    for time_s in (0.0, 10.0, 19.0, 20.0, 30.0, 40.0, 50.0):
        world.run(time_s)
        world.timeline.at(time_s, lambda: None)
        world.run(time_s)
        seen.append(world.fleet.is_on(0))
    assert seen == [False, True, True, False, True, False, False]
    assert world.fleet.off_s()[0] == 10 + 10 + 10


def test_a_task_that_the_memory_no_longer_holds_is_lost_when_it_has_arrived():
    world = World(BOARD)
    world.send(replace(TASK, fits=False))
    ((end_s, _, end),) = world.run()
    assert (end_s, end.lost, end.bytes_down, end.bytes_up) == (11.0, "memory", 100, 0)
    assert (end.cost.download_s, end.cost.compute_s, end.cost.energy_j) == (11.0, 0.0, 11.0)


def test_a_task_runs_in_the_mode_that_it_found():
    weak = Change(at_s=15.0, profile=replace(PROFILE, load_w=2.0), keep=None)
    world = World(replace(BOARD, changes=(weak,), battery_j=1e6))
    world.send(TASK)
    world.send_at(100.0, TASK)
    (_, _, first), (_, _, second) = world.run(200.0)
    assert first.cost.energy_j == 132.0  # begun before the change: 5 W
    assert second.cost.energy_j == 32.0 + 20 * 2.0


def test_a_dropout_costs_what_it_had_used():
    world = World(BOARD)
    world.send(replace(TASK, drops_s=21.0))
    ((end_s, _, end),) = world.run()
    assert (end_s, end.lost, end.cost.compute_s, end.cost.energy_j) == (21.0, "dropout", 10.0, 61.0)


def test_two_boards_share_the_servers_link():
    boards = [replace(BOARD, client=client) for client in (0, 1)]
    world = World(*boards, server=ServerLink(send_bytes_per_s=10.0, receive_bytes_per_s=5.0))
    for client in (0, 1):
        world.send(replace(TASK, client=client))
    ends = world.run()
    # latency 1 + 20 for twice 100 bytes at 10 a second; compute 20; latency 1 + 40 likewise at 5 a second
    assert [end_s for end_s, _, _ in ends] == [82.0, 82.0]
    assert {(e.cost.download_s, e.cost.compute_s, e.cost.upload_s) for _, _, e in ends} == {(21.0, 20.0, 41.0)}


def test_a_board_that_goes_off_in_a_shared_download_leaves_the_rest_of_the_link():
    boards = [replace(BOARD, availability=on((0.0, 11.0))), replace(BOARD, client=1)]
    world = World(*boards, server=ServerLink(send_bytes_per_s=10.0))
    for client in (0, 1):
        world.send(replace(TASK, client=client))
    (lost_s, _, lost), (end_s, _, end) = world.run()
    assert (lost_s, lost.lost, lost.bytes_down) == (11.0, "off", 50)
    assert (end_s, end.cost.download_s) == (16.0 + 20.0 + 21.0, 16.0)  # 10 s at 5 a second, then 5 s at 10


def test_a_hot_board_slows_down_and_recovers_when_it_rests():
    world = World(replace(BOARD, throttle=Throttle(after_s=30.0, slowdown=2.0, recover_s=120.0)))
    world.send(TASK)  # computes from 11 to 31: heat 20
    world.send_at(53.0, TASK)  # from 64 on: 33 s of rest took 33 / 4 of it; 18.25 s are fast, 1.75 at half speed
    world.send_at(300.0, TASK)  # cold again
    assert [end.cost.compute_s for _, _, end in world.run()] == [20.0, 21.75, 20.0]


def test_a_board_goes_off_for_good_when_its_energy_is_used_up():
    world = World(replace(BOARD, battery_j=11.0 + 50.0))
    world.send(TASK)
    ((end_s, _, end),) = world.run()
    assert (end_s, end.lost, end.cost.energy_j) == (21.0, "battery", 61.0)
    assert (world.fleet.empty(), world.fleet.is_on(0)) == ((0,), False)


def test_waiting_drains_and_being_off_does_not():
    world = World(replace(BOARD, battery_j=30.0, availability=on((0.0, 10.0), (50.0, 200.0))))
    world.run(69.0)
    assert world.fleet.empty() == ()
    world.run()
    assert (world.fleet.empty(), world.timeline.now_s) == ((0,), 70.0)  # and nothing is due any more


def test_a_new_task_replaces_one_that_was_given_up():
    world = World(BOARD)
    world.send(TASK)
    world.send_at(15.0, TASK)
    assert [end_s for end_s, _, _ in world.run()] == [15.0 + 52.0]


WORLD = [
    replace(BOARD, availability=on((0.0, 70.0), (90.0, 1e6)), throttle=Throttle(after_s=25, slowdown=3, recover_s=40)),
    replace(BOARD, client=1, battery_j=400.0, throttle=Throttle(after_s=10, slowdown=1.3, recover_s=90)),
    replace(BOARD, client=2, battery_j=250.3, availability=Trace(windows=((3.1, 77.7),), period_s=99.1)),
    replace(BOARD, client=3),
]


def live(world, log, until_s):
    """Keep every board at work: a new task whenever one has ended and the board is on."""
    while world.timeline.next_s <= until_s:
        world.timeline.step()
        for end_s, client, end in world.ends:
            log.append((end_s, client, end))
        world.ends.clear()
        for client in range(4):
            if client not in world.fleet._trips and world.fleet.is_on(client):
                task = replace(
                    TASK, client=client, bytes_down=70 + 13 * client, cost=replace(TASK.cost, compute_s=7.3 + client)
                )
                world.send(task)


@settings(deadline=None, max_examples=60)
@given(st.floats(0.5, 350))
def test_saved_and_restored_at_any_time_it_goes_on_to_the_same_bits(saved_s):
    server = ServerLink(send_bytes_per_s=17.0, receive_bytes_per_s=9.0)
    whole, log = World(*WORLD, server=server), []
    whole.timeline.at(0.0, lambda: None)
    live(whole, log, 400.0)
    assert {end.lost for _, _, end in log} == {None, "off", "battery"}

    first, before = World(*WORLD, server=server), []
    first.timeline.at(0.0, lambda: None)
    live(first, before, saved_s)
    state = json.loads(json.dumps(first.fleet.state()))
    again, after = World(*WORLD, server=server, begin=False), []
    again.timeline.at(first.timeline.now_s, lambda: None)
    again.run()
    again.fleet.restore(state, lambda end: None)
    for client in first.fleet._trips:
        again.fleet.attach(client, partial(again.note, client))
    live(again, after, 400.0)
    assert before + after == log


@settings(deadline=None, max_examples=30)
@given(st.floats(10, 2000), st.floats(0, 60))
def test_no_board_uses_more_than_its_energy(battery_j, sent_s):
    world = World(replace(BOARD, battery_j=battery_j))
    log = []
    world.timeline.at(sent_s, lambda: None)
    while world.timeline.step():
        log += world.ends
        world.ends.clear()
        if world.fleet.is_on(0) and not world.fleet._trips and world.timeline.now_s >= sent_s:
            world.send(TASK)
    log += world.ends
    busy_s = sum(end.cost.total_s for _, _, end in log)
    waited_j = world.timeline.now_s - busy_s - world.fleet.off_s()[0]  # 1 W
    assert world.fleet.empty() == (0,)
    assert sum(end.cost.energy_j for _, _, end in log) + waited_j == pytest.approx(battery_j)
