from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosp.errors import ConfigError
from cosp.fleet import Diurnal, Trace
from cosp.fleet.availability import DAY_S, HOUR_S, read_trace

NIGHT = Diurnal(seed=0, client=3, on_h=8, start_h=22, spread_h=2, jitter_h=1)
PLAIN = Diurnal(seed=0, client=0, on_h=8, start_h=22, spread_h=0, jitter_h=0)


def walk(availability, until_s):
    """All windows from time 0 on."""
    found, window = [], availability.window(0.0)
    while window is not None and window[0] < until_s:
        found.append(window)
        if window[1] == math.inf:
            break
        window = availability.window(window[1])
    return found


def test_a_trace_by_hand():
    trace = Trace(windows=((10.0, 20.0), (30.0, 40.0)))
    assert [trace.window(t) for t in (0.0, 10.0, 20.0, 39.0, 40.0)] == [
        (10.0, 20.0),
        (10.0, 20.0),
        (30.0, 40.0),
        (30.0, 40.0),
        None,
    ]


def test_a_trace_repeats_and_joins_at_the_seam():
    trace = Trace(windows=((0.0, 10.0), (30.0, 50.0)), period_s=50.0)
    assert walk(trace, 130) == [(0.0, 10.0), (30.0, 60.0), (80.0, 110.0)]
    assert Trace(windows=((0.0, 50.0),), period_s=50.0).window(70.0) == (0.0, math.inf)
    assert walk(Trace(windows=((0.1, 0.2),), period_s=0.3), 1.0) == [
        pytest.approx((0.1 + 0.3 * turn, 0.2 + 0.3 * turn)) for turn in range(4)
    ]


def test_a_night_without_chance_is_the_same_every_day():
    assert walk(PLAIN, 3 * DAY_S) == [
        (-2 * HOUR_S, 6 * HOUR_S),
        (22 * HOUR_S, 30 * HOUR_S),
        (46 * HOUR_S, 54 * HOUR_S),
        (70 * HOUR_S, 78 * HOUR_S),
    ]


@settings(deadline=None, max_examples=50)
@given(
    st.integers(0, 5), st.floats(1, 23), st.floats(0, 23), st.floats(0, 8), st.floats(0, 8), st.floats(0, 30 * DAY_S)
)
def test_windows_are_apart_and_asking_within_gives_the_same(client, on_h, start_h, spread_h, jitter_h, time_s):
    rhythm = Diurnal(seed=1, client=client, on_h=on_h, start_h=start_h, spread_h=spread_h, jitter_h=jitter_h)
    start_s, end_s = rhythm.window(time_s)
    assert time_s < end_s
    assert end_s - start_s >= on_h * HOUR_S * (1 - 1e-9)
    next_start_s, _ = rhythm.window(end_s)
    assert next_start_s > end_s
    inside_s = max(start_s, time_s)
    assert rhythm.window((inside_s + end_s) / 2)[1] == end_s
    if start_s > time_s:  # off: it comes on at just that moment
        assert rhythm.window(start_s)[1] == end_s


def test_a_board_is_on_for_its_share_of_the_day():
    windows = walk(NIGHT, 200 * DAY_S)
    on_s = sum(min(end, 200 * DAY_S) - max(start, 0.0) for start, end in windows)
    assert on_s / (200 * DAY_S) == pytest.approx(8 / 24, abs=0.01)


def test_clients_and_seeds_have_nights_of_their_own():
    others = [Diurnal(seed=s, client=c, on_h=8, start_h=22, spread_h=2, jitter_h=1) for s, c in ((0, 4), (1, 3))]
    assert len({rhythm.window(DAY_S) for rhythm in (NIGHT, *others)}) == 3
    assert NIGHT.window(DAY_S) == Diurnal(seed=0, client=3, on_h=8, start_h=22, spread_h=2, jitter_h=1).window(DAY_S)


def test_a_trace_file(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_text("client,start_s,end_s\n1,30,40\n0,0,5.5\n1,10,20\n1,20,25\n", encoding="utf-8")
    assert read_trace(path) == {0: ((0.0, 5.5),), 1: ((10.0, 25.0), (30.0, 40.0))}


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffclient,start_s,end_s\r\n0,0,5.5\r\n",
        "client;start_s;end_s\n0;0;5,5\n",
        "\ufeffclient;start_s;end_s;;\r\n0;0,0;5,5;;\r\n;;;;\r\n\r\n",
        "client\tstart_s\tend_s\n0\t0\t5.5\n",
        "client, start_s, end_s\n 0, 0, 5.5\n",
        '"client","start_s","end_s"\n"0","0","5.5"\n',
    ],
)
def test_a_trace_as_spreadsheets_write_it(tmp_path, text):
    path = tmp_path / "trace.csv"
    path.write_bytes(text.encode())
    assert read_trace(path) == {0: ((0.0, 5.5),)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('client,start_s,end_s\n0,0,"1,000"\n', r":2: must be a whole number and two numbers, got 0,0,1,000$"),
        ("client;start_s;end_s\n\n0;0;1.000,5\n", r":3: must be a whole number and two numbers, got 0;0;1.000,5$"),
        ("client,start,end\n", r":1: the columns must be client,start_s,end_s, got \['client', 'start', 'end'\]$"),
        ("client,start_s,end_s\n0,1,2\n0,5,x\n", r":3: must be a whole number and two numbers, got 0,5,x$"),
        ("client,start_s,end_s\n0,5,5\n", r":2: must be client >= 0 and 0 <= start_s < end_s, got 0,5,5$"),
        ("client,start_s,end_s\n0,5,nan\n", r":2: must be client >= 0 and 0 <= start_s < end_s, got 0,5,nan$"),
        ("client,start_s,end_s\n0,5\n", r":2: must be a whole number and two numbers, got 0,5$"),
    ],
)
def test_a_wrong_trace_is_one_line_that_names_it(tmp_path, text, message):
    path = tmp_path / "trace.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        read_trace(path)


def test_a_trace_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.csv: cannot be read"):
        read_trace(tmp_path / "none.csv")


@pytest.mark.parametrize(("field", "value"), [("on_h", 24), ("start_h", 24), ("spread_h", -1), ("jitter_h", -1)])
def test_a_rhythm_that_cannot_be_is_refused(field, value):
    with pytest.raises(ValueError, match=f"diurnal: {field} must be"):
        Diurnal(**{"seed": 0, "client": 0, "on_h": 8, "start_h": 0, "spread_h": 0, "jitter_h": 0, field: value})
