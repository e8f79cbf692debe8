from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable

import pytest
from half_run import Half

from cosp.watch.follow import Follow, left_s, share_done


def ended_process() -> int:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


def test_a_run_at_work(half: Half) -> None:
    half.round(0, 0.0, (0.1, 0.2))
    half.arrival(2, staleness=1)
    half.arrival(0, reason="stale", staleness=4)
    half.round(1, 2.0, (0.3, 0.4))
    half.round(2, 5.0)
    half.now()
    state = Follow(half.folder).state()
    assert state["status"] == "running"
    assert state["letters"] == "tow"
    assert state["evaluated"] == [[0, 0.0, [0.1, 0.2, 0.75], 1], [1, 2.0, [0.3, 0.4, 0.75], 1]]
    assert state["rounds"][-1] == [2, 5.0, 18.0, 0.5]
    assert state["staleness"] == [[0, 0], [1, 0], [0, 0], [0, 0], [0, 1]]
    assert (state["merged"], state["refused"], state["recent_staleness"]) == (1, {"stale": 1}, 1.0)
    assert (state["done"], state["left_s"]) == (0.5, 30.0)
    assert [board["peak_bytes"] for board in state["boards"]] == [5e6, 0, 5e6]
    assert [(board["task"], board["since_s"]) for board in state["boards"]] == [
        ("train", 4.0),
        (None, None),
        (None, None),
    ]


def test_what_comes_later_is_added(half: Half) -> None:
    follow = Follow(half.folder)
    assert follow.state()["merged"] == 0
    half.arrival(0)
    assert follow.state()["merged"] == 1
    assert follow.state()["merged"] == 1


def test_a_run_that_was_resumed_counts_no_row_twice(half: Half) -> None:
    begun = (half.folder / "rows.jsonl").read_bytes()
    half.arrival(0)
    half.arrival(1)
    follow = Follow(half.folder)
    assert follow.state()["merged"] == 2
    (half.folder / "rows.jsonl").write_bytes(begun)
    half.row(kind="resume", version=0, virtual_s=0.0)
    half.arrival(0, energy_j=7.0)
    state = follow.state()
    assert (state["merged"], state["resumed"], state["boards"][0]["energy_j"]) == (1, 1, 7.0)


def test_a_run_ends_stops_or_has_not_begun(half: Half) -> None:
    follow = Follow(half.folder)
    assert follow.state()["status"] == "stopped"
    half.now()
    assert follow.state()["status"] == "running"
    half.now(pid=ended_process())
    assert follow.state()["status"] == "stopped"
    (half.folder / "now.json").unlink()
    (half.folder / "metrics.json").write_text('{"wall_time_s": 12.0}')
    assert (follow.state()["status"], follow.state()["wall_s"]) == ("ended", 12.0)
    half.now()  # resumed with more versions
    assert follow.state()["status"] == "running"
    (half.folder / "now.json").unlink()
    (half.folder / "metrics.json").unlink()
    (half.folder / "rows.jsonl").unlink()
    state = follow.state()
    assert (state["status"], state["run"], state["letters"], state["boards"]) == ("waiting", None, "", [])


def test_a_run_on_another_machine_lives_as_long_as_it_says_so(half: Half) -> None:
    half.now(host=f"not-{socket.gethostname()}", pid=ended_process())
    assert Follow(half.folder).state()["status"] == "running"
    path = half.folder / "now.json"
    subprocess.run(["touch", "-d", "10 minutes ago", path], check=True)
    assert Follow(half.folder).state()["status"] == "stopped"


def test_nobody_is_said_to_wait_in_a_run_that_is_not_at_work(half: Half) -> None:
    assert Follow(half.folder).state()["letters"] == "---"
    half.now(pid=ended_process())
    assert Follow(half.folder).state()["letters"] == "---"


def test_a_board_that_measures_its_memory_is_believed(half: Half) -> None:
    half.arrival(0, wall_peak_rss_bytes=8e6, wall_peak_cuda_bytes=None)
    assert Follow(half.folder).state()["boards"][0]["peak_bytes"] == 8e6


def test_many_boards_get_a_row_a_kind(make_half: Callable[[int], Half]) -> None:
    half = make_half(10_001)
    half.arrival(0, energy_j=1.0)
    half.arrival(2, energy_j=1.5, peak_memory_bytes=6e6)
    half.now(tasks=[[client, "score", 0, 0.0] for client in range(0, 10_000, 2)], off=[1, 3])
    state = Follow(half.folder).state()
    assert state["boards"] is None
    nano, orin = state["kinds"]
    assert (nano["board"], nano["count"], dict(nano["states"])) == ("nano", 5001, {"s": 5000, "w": 1})
    assert (nano["energy_j"], nano["peak_bytes"], nano["memory_bytes"]) == (2.5, 6e6, 10**9)
    assert dict(orin["states"]) == {"o": 2, "w": 4998}
    assert len(state["letters"]) == 10_001


def test_rows_of_another_cosp_are_counted_and_left_out(half: Half) -> None:
    half.row(kind="arrival", client=0)
    half.row(kind="arrival", client=99)
    half.row(kind="round", version="two")
    half.row(kind="something new")
    assert Follow(half.folder).state()["unreadable"] == 3


@pytest.mark.parametrize(
    ("at", "ends", "share"),
    [
        ((2, 1.0), (4, None), 0.5),
        ((2, 9.0), (4, 10.0), 0.9),
        ((0, 5.0), (None, 10.0), 0.5),
        ((9, 11.0), (4, 10.0), 1.0),
        ((9, 11.0), (None, None), 0.0),
    ],
)
def test_a_run_is_done_when_it_reaches_either_end(at: tuple, ends: tuple, share: float) -> None:
    now = dict(zip(("version", "virtual_s"), at, strict=True))
    assert share_done(now, dict(zip(("versions", "until_s"), ends, strict=True))) == share


def test_time_left_follows_the_pace_since_the_run_began_or_was_resumed() -> None:
    assert left_s(0.5, 0.0, 30.0) == 30.0
    assert left_s(0.75, 0.5, 30.0) == 30.0
    assert left_s(0.5, 0.5, 30.0) is None
