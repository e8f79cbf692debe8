from __future__ import annotations

import io
import re
from typing import Any

from rich.console import Console
from rich.text import Text

from cosp.console import RunProgress, calibration_lines, summary

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
