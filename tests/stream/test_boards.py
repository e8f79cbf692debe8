"""Streams on real boards: the same bytes as of simulated ones, and what goes wrong is named while the others go on."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from postal import FIRST
from puppets import said, saying
from served_boards import ServedBoards, raw_stream
from small_stream import opened
from tiny_runs import rows_of

from cosp.errors import ConfigError
from cosp.run.directory import RunDirectory
from cosp.stream.deployed import open_deployed
from cosp.stream.page import write_page
from cosp.stream.progress import line_of
from cosp.stream.real import check_for_boards, serve_boards

BOARDS = {"until_s": 50, "window_s": 10, "per_s": 1.0}
Served = tuple[list[dict[str, Any]], dict[str, Any]]


@pytest.fixture
def served(tmp_path: Path, run: Path) -> Callable[..., Served]:
    """Return a function that has boards serve a stream to its end; it returns rows and metrics."""

    def made(boards: Callable[..., ServedBoards] | None = None, *sets: str, **changes: Any) -> Served:
        config, deployed = opened(tmp_path, run, *sets, **{"stream": BOARDS, "trial": None, **changes})
        streams = {i: raw_stream(tmp_path, deployed.experiment, range(25 * i, 25 * i + 25)) for i in range(4)}
        grid = (boards or ServedBoards)(deployed.experiment, streams)
        directory = RunDirectory.create(tmp_path / "out", config)
        metrics = serve_boards(grid, config, deployed, directory)
        return rows_of(directory.folder), metrics

    return made


def of(rows: list[dict[str, Any]], kind: str, client: int | None = None) -> list[dict[str, Any]]:
    return [row for row in rows if row["kind"] == kind and client in (None, row.get("client"))]


def test_boards_are_sent_the_whole_then_serve_and_are_adapted(served: Callable[..., Served], tmp_path: Path) -> None:
    rows, metrics = served()
    assert rows[0]["real"]
    for client in range(4):
        first, *later = of(rows, "download", client)
        assert (first["base"], first["way"], first["lost"]) == (None, "whole", None)
        assert {(row["way"], row["lost"]) for row in later} == {("dwc", None)}
        assert max(row["bytes_down"] for row in later) < 0.05 * first["bytes_down"]
        assert sum(row["samples"] for row in of(rows, "window", client)) == 25  # each sample once
    assert of(rows, "step")
    assert metrics["sets"] == len(of(rows, "set")) > 0
    assert metrics["samples"] == 100
    assert 0 <= metrics["stream_accuracy"] <= 1
    assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == metrics
    assert list(open_deployed(tmp_path / "out", data_dir=None).plans) == [0, 1, 2, 3]  # its model is read like any
    assert write_page([tmp_path / "out"], tmp_path / "page.html").stat().st_size > 10_000


def test_a_board_that_forgot_what_it_had_is_sent_the_whole_and_goes_on(served: Callable[..., Served]) -> None:
    def boards(*given: Any) -> ServedBoards:
        return ServedBoards(*given, at={25.0: lambda grid: grid.restart(2)})

    rows, _ = served(boards)
    lost, whole = [row for row in of(rows, "download", 2) if row["virtual_s"] > 25][:2]
    assert (lost["lost"], lost["base"] is None) == ("unknown-base", False)
    assert (whole["lost"], whole["base"], whole["way"]) == (None, None, "whole")
    assert whole["virtual_s"] - lost["virtual_s"] <= 2  # at once, not a window later
    windows = of(rows, "window", 2)
    assert sum(row["samples"] for row in windows) == 25  # from where it was on, each sample once
    assert windows[-1]["to_s"] > whole["virtual_s"]
    assert [row for row in rows if row.get("lost") and row["client"] != 2] == []


def test_a_board_whose_owner_gave_no_stream_is_named_and_the_others_go_on(served: Callable[..., Served]) -> None:
    rows, metrics = served(lambda experiment, streams: ServedBoards(experiment, {**streams, 3: None}))
    failed = of(rows, "failed")
    assert {(row["client"], row["reason"]) for row in failed} == {(3, "client-raised")}
    assert "this board serves no stream" in failed[0]["detail"]
    assert len(failed) == metrics["lost"] == 6  # as it came, and once a window
    assert {row["client"] for row in of(rows, "window")} == {0, 1, 2}


def test_a_board_that_says_nonsense_is_counted_and_banned_and_the_others_go_on(served: Callable[..., Served]) -> None:
    def too_many(request: Any, reply: Any) -> Any:
        told = said(reply)
        return saying(reply, json.dumps({**told, "samples": told["samples"] + 1}))

    rows, metrics = served(lambda *given: ServedBoards(*given, lies={1: too_many}))
    assert {(row["client"], row["reason"]) for row in of(rows, "failed")} == {(1, "malformed")}
    assert [(row["client"], row["lies"]) for row in of(rows, "ban")] == [(1, 3)]
    assert len(of(rows, "failed")) == 3
    assert {row["client"] for row in of(rows, "window")} == {0, 2, 3}
    assert metrics["boards"][1]["lost"] == 3


def test_a_second_answer_is_a_lie(served: Callable[..., Served]) -> None:
    rows, _ = served(lambda *given: ServedBoards(*given, lies={1: lambda request, reply: [reply, reply]}))
    assert {(row["client"], row["reason"]) for row in of(rows, "failed")} == {(1, "twice")}
    assert [(row["client"], row["lies"]) for row in of(rows, "ban")] == [(1, 3)]


def test_a_board_that_says_nothing_is_given_up_and_then_sent_the_whole(served: Callable[..., Served]) -> None:
    grids: list[ServedBoards] = []

    def silent(request: Any, reply: Any) -> Any:
        return [] if 60 <= grids[0].now_s < 110 else reply

    def boards(*given: Any) -> ServedBoards:
        grids.append(ServedBoards(*given, lies={1: silent}))
        return grids[0]

    rows, _ = served(boards, stream={"until_s": 400, "window_s": 50, "per_s": 0.1})
    (failed,) = of(rows, "failed")
    assert (failed["client"], failed["reason"]) == (1, "timeout")
    assert 150 < failed["virtual_s"] - 100 <= 155
    following = [row for row in of(rows, "download", 1) if row["virtual_s"] > failed["virtual_s"]]
    assert following[0]["lost"] is None
    assert (following[0]["way"] == "whole") == (failed["bytes_down"] > 0)  # a set was lost with it
    assert [row for row in of(rows, "window", 1) if row["virtual_s"] > failed["virtual_s"]]


def test_a_board_that_comes_late_takes_part_from_then_on(served: Callable[..., Served]) -> None:
    def boards(*given: Any) -> ServedBoards:
        grid = ServedBoards(*given, at={22.0: lambda grid: grid.nodes.append(FIRST + 3)})
        grid.nodes.remove(FIRST + 3)
        return grid

    rows, _ = served(boards)
    assert [row["client"] for row in of(rows, "client")] == [0, 1, 2, 3]
    windows = of(rows, "window", 3)
    assert windows[0]["from_s"] > 20
    assert sum(row["samples"] for row in windows) >= 20


def test_a_board_with_another_store_is_kept_out(served: Callable[..., Served]) -> None:
    def boards(experiment: Any, streams: dict[int, Path]) -> ServedBoards:
        grid = ServedBoards(experiment, streams)
        grid.recipes[2] = replace(grid.recipe, classes=tuple(reversed(grid.recipe.classes)))
        return grid

    rows, _ = served(boards)
    (kept,) = of(rows, "kept_out")  # said once
    assert (kept["node"], kept["reason"]) == (FIRST + 2, "introduction")
    assert "the run's in another order" in kept["detail"]
    assert {row["client"] for row in of(rows, "window")} == {0, 1, 3}


def test_a_stream_without_labels_has_no_accuracy_and_a_page_all_the_same(
    served: Callable[..., Served], tmp_path: Path
) -> None:
    def unlabelled(experiment: Any, streams: dict[int, Path]) -> ServedBoards:
        for path in streams.values():
            with np.load(path) as file:
                x = file["x"]
            np.savez(path, x=x)
        return ServedBoards(experiment, streams)

    rows, metrics = served(unlabelled)
    assert {row["right"] for row in of(rows, "window")} == {None}
    assert metrics["stream_accuracy"] is None
    assert metrics["samples"] == 100
    assert write_page([tmp_path / "out"], tmp_path / "page.html").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"adapt": {"rule": "labels"}}, "adapt.rule: labels: an oracle's, of simulated boards"),
        ({"stream": {**BOARDS, "boards": [{"clients": [9]}]}}, "stream.boards: client 9 holds no submodel"),
    ],
)
def test_what_real_boards_cannot_do_is_one_line(served: Callable[..., Served], changes: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        served(**changes)


def test_news_of_boards_are_a_line_each(served: Callable[..., Served]) -> None:
    rows, _ = served(lambda *given: ServedBoards(*given, at={25.0: lambda grid: grid.restart(2)}))
    lines = [line for row in rows if (line := line_of(row)) is not None]
    assert all("\n" not in line for line in lines)
    for text in (
        "client 2 (jetson-orin-nano-8) serves",
        "client 2 was sent the whole of set 0: ",
        "client 2 was sent set ",
        "and does not have what it changes (unknown-base)",
        "set 1 is there after ",
    ):
        assert any(text in line for line in lines), text
    failed = {"kind": "failed", "client": 3, "reason": "client-raised", "detail": "Traceback\\n  x\\nTrainerError: no"}
    assert line_of(failed) == "client 3 failed: client-raised: TrainerError: no"


def test_what_says_what_comes_to_simulated_boards_is_named(tmp_path: Path, run: Path) -> None:
    config, _ = opened(tmp_path, run, "stream.order=classes")
    assert check_for_boards(config) == ["stream.drift", "stream.order"]
