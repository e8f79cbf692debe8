"""What a run writes into its log, and that a log which cannot be written is one line."""

from __future__ import annotations

import logging
import re
import warnings

import pytest

from cosp.errors import UserError
from cosp.run.log import LOG, logged, note

LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ (INFO|WARNING|ERROR) (.*)")


def lines(folder) -> list[tuple[str, str]]:
    found = (folder / LOG).read_text(encoding="utf-8").splitlines()
    return [match.groups() for line in found if (match := LINE.fullmatch(line))]


def test_it_says_what_is_news_and_nothing_else(tmp_path):
    late = {"kind": "arrival", "client": 3, "board": "nano", "task": "train", "base_version": 1}
    rows = [
        {"kind": "client", "client": 3},
        {**late, "accepted": True},
        {**late, "accepted": False, "reason": "dropout", "detail": "the board dropped out"},
        {"kind": "round", "version": 2, "closed_by": "quorum", "arrivals": 4, "in_flight": 1, "evaluation": None},
        {"kind": "refused", "client": None, "node": None, "reason": "unasked", "detail": "to no message"},
        {"kind": "refused", "node": 102, "reason": "introduction", "detail": "10 classes, not 9"},
        {"kind": "ban", "client": 5, "node": 7, "reason": "malformed", "lies": 3},
        {"kind": "end", "version": 2, "reason": "the fleet has stalled"},
    ]
    with logged(tmp_path, "tiny") as log:
        for row in rows:
            note(log, row)
    first, *rest, last = lines(tmp_path)
    assert re.fullmatch(r"tiny: cosp \S+", first[1])
    assert rest == [
        ("WARNING", "client 3 (nano), train of version 1: dropout: the board dropped out"),
        ("INFO", "version 2 by quorum: 4 arrivals, 1 in flight"),
        ("WARNING", "nobody's reply: refused: unasked: to no message"),
        ("WARNING", "node 102: refused: introduction: 10 classes, not 9"),
        ("WARNING", "client 5: ban: malformed"),
        ("WARNING", "ends early: the fleet has stalled"),
    ]
    assert last == ("INFO", "ended")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (UserError("a key is wrong"), ("ERROR", "a key is wrong")),
        (ZeroDivisionError("division"), ("ERROR", "ended by what nobody expected")),
        (KeyboardInterrupt(), ("WARNING", "interrupted by KeyboardInterrupt")),
    ],
)
def test_how_it_ended_is_its_last_line(tmp_path, error, said):
    with pytest.raises(type(error)), logged(tmp_path, "tiny"):
        raise error
    assert lines(tmp_path)[-1] == said
    traced = "ZeroDivisionError: division" in (tmp_path / LOG).read_text(encoding="utf-8")
    assert traced == isinstance(error, ZeroDivisionError)


def test_a_warning_is_shown_and_logged(tmp_path):
    with logged(tmp_path, "tiny"), pytest.warns(UserWarning, match="a worker died"):
        warnings.warn("a worker died", stacklevel=1)
    seen = []
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *more, **words: seen.append(str(message))
        with logged(tmp_path, "tiny"):
            warnings.simplefilter("always")
            warnings.warn("another died", stacklevel=1)
    assert seen == ["another died"]
    assert ("WARNING", "another died") in lines(tmp_path)


def test_a_run_that_goes_on_goes_on_with_its_log(tmp_path):
    for _ in range(2):
        with logged(tmp_path, "tiny") as log:
            log.info("here")
    assert [text for _, text in lines(tmp_path)].count("here") == 2


def test_what_others_log_is_not_in_it(tmp_path):
    with logged(tmp_path, "tiny"):
        logging.getLogger("cosp.other").error("of somebody else")
    assert all("somebody" not in text for _, text in lines(tmp_path))


@pytest.mark.skipif(not __import__("os").path.exists("/dev/full"), reason="needs /dev/full")
def test_a_log_without_room_is_an_error_and_hides_none(tmp_path):
    (tmp_path / LOG).symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space"), logged(tmp_path, "tiny"):
        pass
