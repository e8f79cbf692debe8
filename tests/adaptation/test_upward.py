from __future__ import annotations

import numpy as np
import pytest

from cosp.adaptation.answers import Answers
from cosp.adaptation.upward import from_bytes, report_of, to_bytes

ANSWERS = Answers(
    logits=np.array([[[9.0, 0, 0], [0, 9, 0]], [[0, 0, 0], [0, 0, 0]]], np.float32), exit=1, rows=np.array([4, 5])
)


def test_a_report_says_how_sure_a_board_was_and_what_it_answered() -> None:
    report = report_of(ANSWERS, version=3, payload=b"abc")
    assert (report.samples, report.version) == (2, 3)
    assert report.predicted.tolist() == [1, 1, 0]
    assert 0.5 < report.uncertainty < 0.51  # one knows nothing, one is nearly certain


def test_what_is_written_is_read() -> None:
    report = report_of(ANSWERS, version=3, payload=b"abc")
    found = from_bytes(to_bytes(report), classes=3)
    assert found.predicted.tolist() == report.predicted.tolist()
    assert (found.version, found.samples, found.uncertainty, found.payload) == (3, 2, report.uncertainty, b"abc")


@pytest.mark.parametrize("change", [lambda data: data[:5], lambda data: data[:-1], lambda data: data + b"\0"])
def test_what_is_no_report_is_refused(change: object) -> None:
    data = to_bytes(report_of(ANSWERS, version=3, payload=b"abc"))
    with pytest.raises(ValueError, match="report"):
        from_bytes(change(data), classes=3)  # type: ignore[operator]
