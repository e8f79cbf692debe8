"""Lines in words."""

from __future__ import annotations

import pytest

from cosp.tables.lines import CHOSEN, TO_TARGET_S, Line
from cosp.tables.sheets import Context, Sheet, beside_sheet, level_sheets, overview_sheet
from cosp.tables.writing import latex, markdown


@pytest.fixture
def line(outcome, curve):
    def make(variant: str, *chosen: float, curves: tuple = (), **given) -> Line:
        outcomes = {seed: outcome(variant=variant, chosen=value, **given) for seed, value in enumerate(chosen)}
        points = {seed: curve(*(curves[seed] if curves else (0.1, 0.5))) for seed in outcomes}
        return Line(variant=variant, outcomes=outcomes, points=points)

    return make


def cells(sheet: Sheet, variant: str) -> dict[str, str]:
    row = next(row for row in sheet.lines if row[0] == variant)
    return dict(zip(sheet.head, row, strict=True))


def sheets(*lines: Line, target: float | None = None, rule: str = "memory_share") -> tuple[Sheet, ...]:
    return tuple(level_sheets(lines, Context(lines[0].variant, target, rule), ""))


def test_accuracy_is_told_with_deviation_interval_and_paired_difference(line):
    accuracy, _, _ = sheets(line("base", 0.8, 0.9), line("other", 0.7, 0.82))
    told = cells(accuracy, "other")
    assert told["chosen exit"] == "0.760 ± 0.085"
    assert told["beside base"] == "-0.090 ± 0.127 ≈"  # zero lies within; 12.706 * 0.0141 / sqrt 2
    assert cells(accuracy, "base")["beside base"] == "–"


def test_time_to_a_target_is_a_mean_over_the_seeds_that_reach_it(line):
    curves = ((0.1, 0.4, 0.6), (0.1, 0.5, 0.5), (0.1, 0.2, 0.3))
    base = line("base", 0.6, 0.5, 0.3, curves=curves)
    assert list(base.values(TO_TARGET_S, 0.5).values()) == [2.0, 1.0, None]
    *_, cost = sheets(base, line("never", 0.3, curves=((0.1, 0.2),)), target=0.5)
    assert cells(cost, "base")["time to 50%"] == "1.50 s (2 of 3)"
    assert cells(cost, "never")["time to 50%"] == "not reached"


@pytest.mark.parametrize(("rule", "marked"), [("memory_share", "memory used"), ("rate", "capacity used"), ("time", "")])
def test_who_is_over_the_budget_that_the_base_names_is_marked(line, rule, marked):
    *_, cost = sheets(line("base", 0.8, memory_used=1.0, capacity_used=1.0),
                      line("over", 0.9, memory_used=1.3, capacity_used=4.0), rule=rule)  # fmt: skip
    told = cells(cost, "over")
    assert [name for name in ("memory used", "capacity used") if "‡" in told[name]] == ([marked] if marked else [])
    assert not any("‡" in text for text in cells(cost, "base").values())


def test_the_overview_means_over_levels_only_what_all_of_them_have(line):
    sheet = overview_sheet({"easy": [line("base", 0.8), line("some", 0.9)], "hard": [line("base", 0.6)]})
    assert cells(sheet, "base") == {"variant": "base", "easy": "0.800", "hard": "0.600", "mean": "0.700"}
    assert cells(sheet, "some")["mean"] == "–"


def test_differences_at_all_levels_say_who_is_not_apart(line):
    easy = [line("base", 0.8, 0.9), line("worse", 0.7, 0.801), line("like", 0.8, 0.91), line("easy_only", 0.6)]
    sheet = beside_sheet({"easy": easy, "hard": [line("base", 0.6), line("worse", 0.5)]}, "base")
    assert [row[0] for row in sheet.lines] == ["worse", "like", "easy_only"]
    assert cells(sheet, "worse") == {"variant": "worse", "easy": "-0.100 ± 0.006", "hard": "-0.100"}
    assert cells(sheet, "like") == {"variant": "like", "easy": "+0.005 ± 0.064 ≈", "hard": "–"}
    assert cells(sheet, "easy_only")["easy"] == "-0.200"
    assert r"$\approx$" in latex(sheet)


def test_a_base_without_results_leaves_the_others_to_be_told(line):
    other = line("other", 0.7)
    accuracy, _, _ = level_sheets([other], Context("base", None, "rate"), "")
    assert cells(accuracy, "other")["beside base"] == "–"
    assert other.spread(CHOSEN, None).mean == 0.7


def test_the_same_cells_in_markdown_and_latex():
    sheet = Sheet("t", ["variant", "accuracy"], [["a_b", "0.5 ± 0.1‡"]])
    assert markdown(sheet).splitlines() == ["| variant | accuracy |", "| --- | --- |", "| a_b | 0.5 ± 0.1‡ |"]
    assert r"a\_b & 0.5 $\pm$ 0.1$^\ddagger$ \\" in latex(sheet).splitlines()
