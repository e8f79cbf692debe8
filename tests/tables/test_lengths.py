"""Accuracy by a time, and from when on a line leads."""

from __future__ import annotations

import pytest

from cosp.tables.lengths import by, lead_from_s
from cosp.tables.lines import Line
from cosp.tables.sheets import lengths_sheet


@pytest.fixture
def line(outcome, curve):
    def make(variant: str, *curves: tuple[float, ...]) -> Line:
        points = {seed: curve(*accuracies) for seed, accuracies in enumerate(curves)}
        return Line(variant=variant, outcomes={seed: outcome(variant=variant) for seed in points}, points=points)

    return make


def test_by_a_time_is_the_last_evaluation_within_it(line):
    found = line("base", (0.1, 0.4, 0.6))  # one a second
    assert by(1.9).of(found.first, found.points[0], None) == 0.4
    assert by(2.0).of(found.first, found.points[0], None) == 0.6
    assert by(2.05).of(found.first, found.points[0], None) == 0.6  # a run ends a little before its time
    assert by(4.0).of(found.first, found.points[0], None) is None  # it ended before


def test_a_lead_is_for_good_and_of_the_mean(line):
    swift = line("swift", (0.1, 0.5, 0.5, 0.5, 0.5))
    slow = line("slow", (0.1, 0.6, 0.4, 0.6, 0.8))  # ahead, behind, ahead
    assert lead_from_s(slow, swift) == pytest.approx(2.5, abs=0.03)
    assert lead_from_s(swift, slow) is None
    assert lead_from_s(line("all", (0.2, 0.6, 0.6, 0.6, 0.9)), swift) == 0.0
    two = line("two", (0.1, 0.4, 0.4, 0.4, 0.4), (0.1, 0.9, 0.9, 0.9, 0.9))
    assert lead_from_s(two, line("flat", (0.9,) * 5, (0.8,) * 5)) is None
    assert lead_from_s(two, swift) is None  # of the seed that both have


def test_the_sheet_tells_lengths_differences_and_the_crossing(line):
    base, other = line("base", (0.1, 0.4, 0.8), (0.1, 0.5, 0.9)), line("other", (0.1, 0.6, 0.6), (0.1, 0.7, 0.7))
    sheet = lengths_sheet([base, other], "base", (1.0, 2.0, 9.0), "")
    assert sheet.head == ["variant", "by 1 s", "by 2 s", "by 9 s", "base ahead for good"]
    (_, first, last, beyond, alone), (_, early, late, unknown, crossing) = sheet.lines
    assert (first, last, beyond, alone) == ("0.450 ± 0.071", "0.850 ± 0.071", "–", "–")
    assert early == "0.650 ± 0.071 (+0.200 ± 0.000)"
    assert late == "0.650 ± 0.071 (-0.200 ± 0.000)"
    assert unknown == "–"
    assert crossing.startswith("from 1.5")
    never = lengths_sheet([base, line("better", (0.1, 0.9, 0.95), (0.1, 0.9, 0.95))], "base", (1.0,), "cifar")
    assert never.title == "cifar: accuracy by time"
    assert never.lines[1][-1] == "never"
    always = lengths_sheet([base, line("worse", (0.0, 0.1, 0.1), (0.0, 0.1, 0.1))], "base", (1.0,), "")
    assert always.lines[1][-1] == "throughout"
