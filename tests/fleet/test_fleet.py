from __future__ import annotations

import dataclasses
import math
import statistics
import time
from collections import Counter

import pytest
import yaml

from cosp.errors import ConfigError
from cosp.fleet import (
    Board,
    Diurnal,
    Link,
    ServerLink,
    Throttle,
    Trace,
    Work,
    cost,
    fleet_names,
    load_fleet,
    load_profile,
)

NANO = {"device": "jetson-nano", "link": "wifi"}


def tiny(*, share: float = 1.0, kernels_per_block: int = 60) -> Work:
    """The quickstart's scale: a ViT of width 64 with 4 blocks, or a share of it (which launches as many kernels)."""
    return Work(
        steps=18,
        batch=32,
        step_flops=3 * 28e6 * 32 * share,
        step_bytes=0,
        step_kernels=4 * kernels_per_block,
        download_bytes=int(0.8e6 * share),
        upload_bytes=int(0.8e6 * share),
    )


def seconds(boards: list[Board], *, own_share: bool, kernels_per_block: int) -> float:
    works = [tiny(share=(b.keep or 1.0) if own_share else 1.0, kernels_per_block=kernels_per_block) for b in boards]
    return statistics.median(cost(board, work).total_s for board, work in zip(boards, works, strict=True))


def slower(name: str, *, own_share: bool, kernels_per_block: int = 60) -> float:
    """How many times as long the 1/4 boards of a fleet take as those that hold the whole model."""
    boards = load_fleet(name).boards
    weak, strong = ([board for board in boards if board.keep == keep] for keep in (0.25, 1.0))
    return seconds(weak, own_share=own_share, kernels_per_block=kernels_per_block) / seconds(
        strong, own_share=own_share, kernels_per_block=kernels_per_block
    )


@pytest.mark.parametrize("name", fleet_names())
def test_every_fleet_loads_and_numbers_its_clients(name):
    boards = load_fleet(name).boards
    assert [board.client for board in boards] == list(range(len(boards)))


def test_the_papers_fleet_has_52_pseudo_clients_in_16():
    boards = load_fleet("paper16").boards
    assert (len(boards), sum(board.shares for board in boards)) == (16, 52)
    assert Counter(board.shares for board in boards) == {6: 2, 3: 13, 1: 1}
    assert Counter(board.keep for board in boards) == {1.0: 2, 0.25: 8, 0.5: 6}


def test_the_papers_keep_ratios_follow_memory():
    for board in load_fleet("paper16").boards:
        if board.keep != 1.0:
            assert board.keep == (0.25 if board.profile.memory_bytes < 8e9 else 0.5)


@pytest.mark.parametrize(
    ("name", "keeps"),
    [("mild16", {0.25: 4, 0.5: 4, 0.75: 4, 1.0: 4}), ("weak16", {0.25: 8, 0.5: 6, 1.0: 2}), ("equal4", {1.0: 4})],
)
def test_keep_ratios(name, keeps):
    assert Counter(board.keep for board in load_fleet(name).boards) == keeps


@pytest.mark.parametrize("kernels_per_block", [60, 120])
def test_weak_boards_are_roughly_10_times_slower_on_a_tiny_model(kernels_per_block):
    assert 10 <= slower("weak16", own_share=False, kernels_per_block=kernels_per_block) <= 16
    assert 4 <= slower("weak16", own_share=True, kernels_per_block=kernels_per_block) <= 8


@pytest.mark.parametrize("kernels_per_block", [60, 120])
def test_the_mild_fleet_spreads_by_a_small_factor(kernels_per_block):
    assert 3 <= slower("mild16", own_share=False, kernels_per_block=kernels_per_block) <= 5.5
    assert 2 <= slower("mild16", own_share=True, kernels_per_block=kernels_per_block) <= 3.6


def test_equal_boards_cost_the_same():
    assert len({cost(board, tiny()) for board in load_fleet("equal4").boards}) == 1


def test_an_inline_fleet_is_one_of_the_same_form():
    link = {"downlink_mbit_s": 8, "uplink_mbit_s": 4, "latency_ms": 100}
    boards = load_fleet(
        {
            "links": {"radio": link},
            "boards": [
                {"device": "jetson-tx2", "mode": "MAXQ", "link": "radio", "shares": 2, "slowdown": 3.0, "dropout": 0.1},
                NANO | {"count": 2},
            ],
        }
    ).boards
    assert boards[0] == Board(
        client=0,
        profile=load_profile("jetson-tx2", "MAXQ"),
        link=Link(name="radio", downlink_bytes_per_s=1e6, uplink_bytes_per_s=0.5e6, latency_s=0.1),
        shares=2,
        slowdown=3.0,
        dropout=0.1,
    )
    assert [(board.client, board.profile.name, board.keep) for board in boards[1:]] == [
        (1, "jetson-nano", None),
        (2, "jetson-nano", None),
    ]


def test_device_files_are_found_beside_the_fleet_file(tmp_path):
    (tmp_path / "mine.yaml").write_text(
        yaml.safe_dump(
            {
                "title": "Mine",
                "default_mode": "on",
                "visible_mib": 1000,
                "reserved_os_mib": 0,
                "reserved_runtime_mib": 0,
                "eta0": 0.5,
                "half_batch": 0,
                "launch_us": 10,
                "idle_w": 1,
                "modes": {"on": {"peak_gflops": 10, "cpu_cores": 4, "dram_gb_s": 10, "cap_w": 5}},
            }
        ),
        encoding="utf-8",
    )
    fleet = tmp_path / "fleet.yaml"
    fleet.write_text(yaml.safe_dump({"boards": [{"device": "mine.yaml", "link": "wifi"}]}), encoding="utf-8")
    (board,) = load_fleet(fleet).boards
    assert (board.profile.name, board.profile.memory_bytes) == ("mine", 1000 * 2**20)


@pytest.mark.parametrize(
    ("fleet", "message"),
    [
        ({"boards": []}, r"^fleet: boards: .*at least 1"),
        ({"boards": [NANO | {"keeps": 1.0}]}, r"^fleet: boards\.0: unknown key 'keeps'; .*; did you mean 'keep'\?$"),
        ({"boards": [NANO | {"keep": 1.5}]}, r"^fleet: boards\.0\.keep: must be less than or equal to 1, got 1\.5$"),
        ({"boards": [NANO | {"keep": "half"}]}, r"^fleet: boards\.0\.keep: must be a valid number, got 'half'$"),
        (
            {"boards": [NANO, NANO | {"link": "wify"}]},
            r"^fleet: boards\.1\.link: unknown link 'wify'; .* mean 'wifi'\?$",
        ),
        ({"boards": [NANO | {"mode": "5w"}]}, r"^fleet: boards\.0: jetson-nano: unknown mode '5w'; .* mean '5W'\?$"),
        ({"boards": [NANO | {"device": "nano"}]}, r"^fleet: boards\.0: unknown device 'nano'; known: .*jetson-nano"),
        ({"board": [NANO]}, r"^fleet: unknown key 'board'; .*; did you mean 'boards'\?"),
    ],
)
def test_a_wrong_fleet_is_one_line_that_names_key_value_and_rule(fleet, message):
    with pytest.raises(ConfigError, match=message) as caught:
        load_fleet(fleet)
    assert "\n" not in str(caught.value)


def test_an_unknown_fleet_names_the_known_and_the_close():
    with pytest.raises(ConfigError, match=r"^unknown fleet 'paper61'; known: .*mild16.*; did you mean 'paper16'\?"):
        load_fleet("paper61")


@pytest.mark.parametrize(("field", "value"), [("keep", 0.0), ("shares", 0), ("slowdown", 0.5), ("dropout", 1.5)])
def test_a_board_that_cannot_be_is_refused(field, value):
    link = Link(name="toy", downlink_bytes_per_s=1.0, uplink_bytes_per_s=1.0, latency_s=0.0)
    with pytest.raises(ValueError, match=f"board 0: {field} must be"):
        Board(client=0, profile=load_profile("jetson-nano"), link=link, **{field: value})


def test_a_link_without_bandwidth_is_refused():
    with pytest.raises(ValueError, match="link toy: uplink_bytes_per_s must be > 0, got 0"):
        Link(name="toy", downlink_bytes_per_s=1.0, uplink_bytes_per_s=0.0, latency_s=0.0)


MIX = [{"weight": 3, **NANO}, {"weight": 1, "device": "jetson-tx2", "link": "wifi-fedscale", "keep": 0.5}]


def generated(count: int, seed: int = 0) -> tuple[Board, ...]:
    return load_fleet({"seed": seed, "generate": {"count": count, "mix": MIX}}).boards


def test_a_mix_is_drawn_by_weight_and_seed_and_a_larger_fleet_begins_with_the_smaller():
    boards = generated(2000)
    assert sum(board.profile.name == "jetson-nano" for board in boards) / 2000 == pytest.approx(0.75, abs=0.03)
    assert generated(50) == boards[:50]
    assert generated(50, seed=1) != boards[:50]


def test_generated_clients_follow_the_listed():
    boards = load_fleet(
        {"boards": [{**NANO, "device": "jetson-agx-orin-64"}], "generate": {"count": 2, "mix": MIX[:1]}}
    ).boards
    assert [(b.client, b.profile.name) for b in boards] == [
        (0, "jetson-agx-orin-64"),
        (1, "jetson-nano"),
        (2, "jetson-nano"),
    ]


def test_ten_thousand_boards_load_in_a_moment():
    began_s = time.process_time()
    assert len(load_fleet("mixed10000").boards) == 10_000
    assert time.process_time() - began_s < 2.0


def test_drawn_links_have_the_median_and_the_spread_that_was_published():
    """Of the FedScale trace: median 6.1 Mbit/s, 26 % below 3."""
    mbit_s = [
        b.link.uplink_bytes_per_s * 8 / 1e6 for b in load_fleet("mixed10000").boards if b.link.name == "wifi-fedscale"
    ]
    assert statistics.median(mbit_s) == pytest.approx(6.1, rel=0.05)
    assert sum(rate < 3 for rate in mbit_s) / len(mbit_s) == pytest.approx(0.26, abs=0.02)


def test_a_clients_draw_is_one_for_both_directions():
    flash = [board.link for board in load_fleet("phones24").boards if board.link.name == "wifi-flash"]
    down = [math.log(link.downlink_bytes_per_s / (35.4e6 / 8)) / 0.44 for link in flash]
    up = [math.log(link.uplink_bytes_per_s / (26.9e6 / 8)) / 0.88 for link in flash]
    assert down == pytest.approx(up)
    assert len(set(down)) == len(down)


def test_what_can_happen_to_a_board_is_read(tmp_path):
    (tmp_path / "trace.csv").write_text("client,start_s,end_s\n0,1,2\n", encoding="utf-8")
    entries = [
        {**NANO, "desktop": True, "battery_j": 500, "availability": {"trace": {"path": "trace.csv", "period_s": 9}}},
        {**NANO, "availability": {"diurnal": {"on_h": 6}}, "throttle": {"after_s": 1, "slowdown": 2, "recover_s": 3}},
    ]
    path = tmp_path / "fleet.yaml"
    path.write_text(yaml.safe_dump({"seed": 4, "server": {"send_mbit_s": 80}, "boards": entries}), encoding="utf-8")
    fleet = load_fleet(path)
    first, second = fleet.boards
    assert fleet.server == ServerLink(send_bytes_per_s=1e7)
    assert first.profile == load_profile("jetson-nano", desktop=True)
    assert (first.battery_j, first.availability) == (500, Trace(windows=((1.0, 2.0),), period_s=9))
    assert second.availability == Diurnal(seed=4, client=1, on_h=6, start_h=22, spread_h=2, jitter_h=1)
    assert second.throttle == Throttle(after_s=1, slowdown=2, recover_s=3)


def test_a_board_is_what_its_changes_have_made_of_it():
    changes = [{"at_s": 10, "mode": "5W"}, {"at_s": 20, "memory_mib": 500}, {"at_s": 30, "mode": "MAXN", "keep": 0.2}]
    (board,) = load_fleet({"boards": [{**NANO, "keep": 0.5, "changes": changes}]}).boards
    maxn, low = (load_profile("jetson-nano", mode) for mode in ("MAXN", "5W"))
    seen = [(board.at(time_s).profile, board.at(time_s).keep) for time_s in (0.0, 9.9, 10.0, 25.0, 99.0)]
    small = {"memory_bytes": 500 * 2**20}
    assert seen == [
        (maxn, 0.5), (maxn, 0.5), (low, 0.5), (dataclasses.replace(low, **small), 0.5),
        (dataclasses.replace(maxn, **small), 0.2),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"availability": {}}, r"boards\.0\.availability: must have exactly one of trace and diurnal$"),
        ({"availability": {"diurnal": {"on_h": 25}}}, r"boards\.0\.availability\.diurnal\.on_h: must be less than 24"),
        ({"availability": {"diurnal": {"on": 5}}}, r"availability\.diurnal: unknown key 'on'; .* mean 'on_h'\?$"),
        ({"availability": {"trace": {"path": "none.csv"}}}, r"boards\.0\.availability\.trace\.path: .*cannot be read"),
        (
            {"count": 2, "availability": {"trace": {"path": "trace.csv"}}},
            r"boards\.0\.availability\.trace\.path: trace\.csv has no line for client 1; add when it is on$",
        ),
        (
            {"availability": {"trace": {"path": "trace.csv", "period_s": 1}}},
            r"boards\.0\.availability\.trace\.period_s: must not be before the end of trace\.csv \(2\), got 1$",
        ),
        (
            {"throttle": {"after_s": 1, "slowdown": 0.5, "recover_s": 1}},
            r"throttle\.slowdown: must be greater than or ",
        ),
        ({"throttle": {"after_s": 1}}, r"boards\.0\.throttle\.slowdown: is missing"),
        ({"changes": [{"at_s": 5}]}, r"boards\.0\.changes\.0: must name at least one of mode, memory_mib and keep$"),
        ({"changes": [{"mode": "5W"}]}, r"boards\.0\.changes\.0\.at_s: is missing"),
        ({"changes": [{"at_s": 0, "keep": 0.5}]}, r"boards\.0\.changes\.0\.at_s: must be greater than 0, got 0"),
        ({"changes": [{"at_s": 5, "mode": "6W"}]}, r"boards\.0: jetson-nano: unknown mode '6W'; known: MAXN, 5W"),
        (
            {"changes": [{"at_s": 5, "keep": 0.5}, {"at_s": 5, "keep": 0.2}]},
            r"boards\.0: changes: at_s must grow from one to the next, got \[5.*, 5.*\]$",
        ),
        ({"changes": [{"at_s": 5, "memory_mib": 1e-9}]}, r"changes\.0\.memory_mib: .*, got 1e-09"),
        ({"count": 10**9}, r"boards\.0\.count: must be less than or equal to 1000000, got 1000000000$"),
        ({"battery_j": 0}, r"boards\.0\.battery_j: must be greater than 0, got 0"),
        ({"device": "phone-low", "desktop": True}, r"boards\.0: phone-low: desktop: .*add reserved_desktop_mib to it$"),
    ],
)
def test_a_wrong_condition_is_one_line_that_names_it(tmp_path, monkeypatch, changes, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trace.csv").write_text("client,start_s,end_s\n0,1,2\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"^fleet: .*" + message) as caught:
        load_fleet({"boards": [NANO | changes]})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fleet", "message"),
    [
        (
            {"generate": {"count": 0, "mix": MIX}},
            r"^fleet: generate\.count: must be greater than or equal to 1, got 0$",
        ),
        ({"generate": {"count": 1, "mix": []}}, r"^fleet: generate\.mix: .*at least 1"),
        ({"generate": {"count": 1, "mix": [NANO]}}, r"^fleet: generate\.mix\.0\.weight: is missing$"),
        (
            {"generate": {"count": 1, "mix": [{**NANO, "weight": 1, "link": "wify"}]}},
            r"^fleet: generate\.mix\.0\.link: unknown link 'wify'; .* mean 'wifi'\?$",
        ),
        (
            {"boards": [NANO], "server": {"send_mbit_s": -1}},
            r"^fleet: server\.send_mbit_s: must be greater than 0, got -1",
        ),
    ],
)
def test_a_wrong_generator_or_server_is_one_line_that_names_it(fleet, message):
    with pytest.raises(ConfigError, match=message) as caught:
        load_fleet(fleet)
    assert "\n" not in str(caught.value)


def test_the_colext_testbed():
    names = Counter(board.profile.name for board in load_fleet("colext28").boards)
    assert names == {
        "jetson-agx-orin-64": 2, "jetson-orin-nano-8": 4, "jetson-nano": 6, "jetson-xavier-nx-8": 2,
        "lattepanda-delta-3": 6, "orange-pi-5b": 8,
    }  # fmt: skip
