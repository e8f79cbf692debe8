from __future__ import annotations

from cosp.console import calibration_lines


def test_boards_that_are_known_alike_share_a_line():
    boards = [("nano", "default"), ("mine", "measured"), ("nano", "default"), ("tx2", "default")]
    assert calibration_lines(boards) == ["default: nano, tx2", "measured: mine"]


def test_what_holds_for_all_boards_names_none():
    assert calibration_lines([("nano", "default"), ("tx2", "default")]) == ["default: all"]
