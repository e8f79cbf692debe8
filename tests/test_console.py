from __future__ import annotations

import io
import re
from typing import Any

from rich.console import Console
from rich.text import Text

from cosp.console import RunProgress, calibration_lines, line_of, summary

SCORES = {"accuracy": [0.5, 0.75], "mean_accuracy": 0.7, "chosen_exit": 0, "chosen_accuracy": 0.5}
METRICS: dict[str, Any] = {
    "exits": [3, 6], "final": {"global": SCORES, "local": None},
    "best": {"global": {**SCORES, "chosen_exit": 1, "chosen_accuracy": 0.625}, "local": None},
    "rounds": 4, "virtual_time_s": 90.0, "wall_time_s": 1.0, "utilisation": 0.5, "bytes_down": 10, "bytes_up": 10,
    "energy_j": 3.0, "refused": {},
}  # fmt: skip


def test_boards_that_are_known_alike_share_a_line():
    boards = [("nano", "default"), ("mine", "measured"), ("nano", "default"), ("tx2", "default")]
    assert calibration_lines(boards) == ["default: nano, tx2", "measured: mine"]


def test_what_holds_for_all_boards_names_none():
    assert calibration_lines([("nano", "default"), ("tx2", "default")]) == ["default: all"]


def test_a_summary_names_exits_by_their_blocks_and_its_best_is_by_validation():
    lines = dict(summary(METRICS))
    assert lines["test accuracy, exits after blocks 3, 6"] == "0.500  0.750"
    assert lines["test accuracy, chosen exit (after block 3)"] == "0.500"
    assert lines["best version by validation (after block 6)"] == "0.625"


def test_a_narrow_terminal_shows_the_versions_and_the_time_left_whole():
    screen = Console(width=80, file=io.StringIO(), force_terminal=True)
    with RunProgress(screen, 4000) as progress:
        progress.on_row({"kind": "arrival", "task": "train", "accepted": True, "staleness": 2})
        progress.on_row({"kind": "round", "version": 73, "virtual_s": 0.3145, "evaluation": {"accuracy": [1.0]}})
    shown = Text.from_ansi(screen.file.getvalue()).plain  # type: ignore[attr-defined]
    assert re.search(r"━+ +73/4000 virtual 314.5 ms  accuracy 1.000  staleness 2.0 left -:--:--", shown)


ROUND = {"kind": "round", "version": 3, "virtual_s": 61.0, "evaluation": {"accuracy": [0.5, 0.75]}}
LIMITED = {
    "kind": "client", "client": 2, "board": "raspberry-pi-5", "keep": 0.1, "memory_bytes": 3 * 10**9, "samples": 9,
    "planned": {"keep": 0.25, "memory_bytes": 4 * 10**9}, "claimed": {"samples": 20},
}  # fmt: skip
LOST = {"kind": "arrival", "client": 1, "accepted": False, "task": "train", "reason": "timeout", "detail": "gone"}


def test_a_run_on_boards_without_a_terminal_says_a_line_a_version_and_what_is_news():
    log = Console(width=80, file=io.StringIO(), force_terminal=False)
    with RunProgress(log, 40, on_boards=True) as progress:
        for row in (LIMITED, ROUND, LOST, {**ROUND, "version": 4, "evaluation": None}):
            progress.on_row(row)
    shown = log.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert shown[:4] == [
        line_of(LIMITED), "version 3 after 1.0 min, accuracy 0.750", "client 1 refused: timeout gone",
        "version 4 after 1.0 min",
    ]  # fmt: skip
    assert not any("virtual" in line for line in shown)


def test_a_board_s_own_limit_is_said_beside_what_the_fleet_file_plans():
    assert line_of(LIMITED) == (
        "client 2 claims {'samples': 20}, counted as {'samples': 9}; "
        "client 2 (raspberry-pi-5) takes 0.1 of the model by its own limit, the fleet file plans 0.25 of the model; "
        "client 2 (raspberry-pi-5) takes 3.0 GB by its own limit, the fleet file plans 4.0 GB"
    )
    assert line_of({**LIMITED, "planned": {"keep": None}, "claimed": {}}) == (
        "client 2 (raspberry-pi-5) takes 0.1 of the model by its own limit, the fleet file plans what its memory holds"
    )
    assert line_of({"kind": "client", "client": 2, "board": "b", "keep": None}) is None
