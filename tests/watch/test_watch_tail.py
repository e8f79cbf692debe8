from __future__ import annotations

import json
from pathlib import Path

import pytest

from cosp.watch.tail import Tail


def line(**row: object) -> bytes:
    return json.dumps({"kind": "round", **row}).encode() + b"\n"


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return tmp_path / "rows.jsonl"


def test_each_row_is_read_once(rows: Path) -> None:
    rows.write_bytes(line(version=0) + line(version=1))
    tail = Tail(rows)
    assert [row["version"] for row in tail.read().rows] == [0, 1]
    assert tail.read().rows == []
    with rows.open("ab") as file:
        file.write(line(version=2))
    assert [row["version"] for row in tail.read().rows] == [2]


def test_a_half_written_row_waits_for_its_end(rows: Path) -> None:
    whole = line(version=1)
    rows.write_bytes(line(version=0) + whole[:9])
    tail = Tail(rows)
    assert [row["version"] for row in tail.read().rows] == [0]
    rows.write_bytes(line(version=0) + whole)
    news = tail.read()
    assert ([row["version"] for row in news.rows], news.anew) == ([1], False)


def test_a_file_that_is_not_there_yet_has_no_rows(rows: Path) -> None:
    tail = Tail(rows)
    assert tail.read().rows == []
    rows.write_bytes(line(version=0))
    assert [row["version"] for row in tail.read().rows] == [0]


def test_rows_that_were_cut_back_are_read_anew(rows: Path) -> None:
    rows.write_bytes(line(version=0) + line(version=1) + line(version=2))
    tail = Tail(rows)
    tail.read()
    rows.write_bytes(line(version=0))
    news = tail.read()
    assert ([row["version"] for row in news.rows], news.anew) == ([0], True)


def test_rows_that_were_cut_back_and_have_grown_past_where_they_were_are_read_anew(rows: Path) -> None:
    rows.write_bytes(line(version=0) + line(version=1))
    tail = Tail(rows)
    tail.read()
    rows.write_bytes(line(version=0) + line(version=7) + line(version=8))
    news = tail.read()
    assert ([row["version"] for row in news.rows], news.anew) == ([0, 7, 8], True)


def test_rows_that_came_again_as_they_were_are_not_read_again(rows: Path) -> None:
    """A resumed run in virtual time writes the rows after its checkpoint once more, to the byte."""
    rows.write_bytes(line(version=0) + line(version=1))
    tail = Tail(rows)
    tail.read()
    rows.write_bytes(line(version=0) + line(version=1) + line(version=2))
    news = tail.read()
    assert ([row["version"] for row in news.rows], news.anew) == ([2], False)


@pytest.mark.parametrize("most_bytes", [1, 40, 1000])
def test_a_long_file_is_read_in_parts(rows: Path, most_bytes: int) -> None:
    rows.write_bytes(b"".join(line(version=i) for i in range(50)))
    tail = Tail(rows)
    found, reads, left = [], 0, 1
    while left:
        news = tail.read(most_bytes)
        found += [row["version"] for row in news.rows]
        left, reads = news.left_bytes, reads + 1
    assert found == list(range(50))
    assert reads == {1: 50, 40: 50, 1000: 2}[most_bytes]


def test_lines_that_are_no_rows_are_counted(rows: Path) -> None:
    rows.write_bytes(b"{]\n[1]\n" + b"[" * 100_000 + b"\n\xff\n" + line(version=0))
    tail = Tail(rows)
    assert [row["version"] for row in tail.read().rows] == [0]
    assert tail.unreadable == 4
