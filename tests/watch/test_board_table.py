"""The table of a run on real boards: who is waited for, who works, what each measured."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from half_run import Half
from rich.console import Console

from cosp.console import RunProgress
from cosp.watch.follow import MOST_BOARDS, Follow
from cosp.watch.table import BoardTable, board_rows, board_table

MEASURED = {
    "compute_s": 2.0, "energy_j": 14.0, "wall_peak_rss_bytes": 345e6, "wall_temperature_c": 61.2, "arrived_s": 2.0,
}  # fmt: skip


def node(number: int, name: str, status: str = "online") -> dict[str, Any]:
    return {
        "node-id": str(number),
        "name": name,
        "status": status,
        "online-at": None if status == "registered" else "t",
    }


NODES = [node(70, "kitchen"), node(71, "cellar"), node(72, "garage"), node(73, "attic", "registered"),
         node(74, "shed", "offline"), node(75, "late")]  # fmt: skip


def rows(folder: Path, nodes: Sequence[dict[str, Any]] = NODES) -> dict[str, tuple[str, ...]]:
    return {row[0]: row[1:] for row in board_rows(Follow(folder).state(), nodes)}


def test_before_the_first_row_it_says_who_is_waited_for(tmp_path: Path) -> None:
    half = Half(tmp_path / "run", clients=0)
    (half.folder / "rows.jsonl").unlink()
    half.now(nodes={"70": 0}, silent={"71": 61.0}, tasks=[], off=[])
    found = rows(half.folder)
    assert {name: does[:2] for name, does in found.items()} == {
        "kitchen": ("ready", ""),
        "cellar": ("is asked", "1.0 min"),
        "garage": ("online", ""),
        "attic": ("waited for", ""),
        "shed": ("gone", ""),
        "late": ("online", ""),
    }


def test_a_run_s_boards_have_the_names_that_they_were_admitted_by(half: Half) -> None:
    half.arrival(0, **MEASURED)
    half.arrival(1, reason="timeout", arrived_s=4.0, compute_s=0.0, energy_j=0.0)
    half.now(virtual=False, nodes={"70": 0, "71": 1, "72": 2}, virtual_s=12.0, tasks=[[0, "train", 2, 9.0]], off=[1])
    found = rows(half.folder)
    assert list(found) == ["kitchen", "cellar", "garage", "attic", "shed", "late"]
    assert found["kitchen"] == ("trains", "3.0 s", "10.0 s", "2", "1", "", "345.0 MB", "7.0 W", "61 °C")
    assert found["cellar"] == ("gone", "", "8.0 s", "0", "1", "1", "", "", "")
    assert found["garage"] == ("waits", "", "", "", "0", "", "", "", "")
    assert found["late"][0] == "left out"


def test_when_a_run_has_ended_each_board_still_has_one_row(half: Half) -> None:
    half.now(virtual=False, nodes={"70": 0, "71": 1, "72": 2}, tasks=[], off=[])
    follow = Follow(half.folder)
    follow.state()
    (half.folder / "now.json").unlink()
    assert [row[0] for row in board_rows(follow.state(), NODES[:3])] == ["kitchen", "cellar", "garage"]


def test_what_nobody_measured_is_no_column(half: Half) -> None:
    half.arrival(0, compute_s=2.0, energy_j=0.0)
    half.now(virtual=False, nodes={"70": 0})
    names = [column.header for column in board_table(Follow(half.folder).state(), NODES).columns]
    assert names == ["board", "does", "for", "heard", "version", "tasks"]


def test_without_what_superlink_says_boards_have_the_names_of_their_rows(half: Half) -> None:
    assert list(rows(half.folder, [])) == ["nano", "orin"]  # two nanos: a dict keeps one
    assert len(board_rows(Follow(half.folder).state(), [])) == 3


def test_of_many_boards_it_says_how_many_do_what(tmp_path: Path) -> None:
    half = Half(tmp_path / "run", clients=MOST_BOARDS + 2)
    half.now(virtual=False, tasks=[[0, "train", 2, 4.0]], off=[1], nodes={})
    table = board_table(Follow(half.folder).state(), [])
    assert table.row_count == 0
    assert table.caption == f"{MOST_BOARDS} waits, 1 trains, 1 gone"


def test_it_stands_below_the_bar_in_a_terminal_of_80_columns(half: Half) -> None:
    half.arrival(0, **MEASURED)
    half.now(virtual=False, nodes={"70": 0, "71": 1, "72": 2}, virtual_s=12.0)
    table = BoardTable(half.folder)
    table.on_nodes(NODES)
    screen = Console(file=io.StringIO(), force_terminal=True, width=80)
    with RunProgress(screen, 4, on_boards=True, below=table) as progress:
        progress.on_row({"kind": "round", "version": 1, "virtual_s": 5.0, "evaluation": None})
    said = screen.file.getvalue()  # type: ignore[attr-defined]
    for word in ("1/4", "after 5.0 s", "kitchen", "waited for", "345.0 MB", "7.0 W"):
        assert word in said
    assert "…" not in said
