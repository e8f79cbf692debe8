"""Lines in words."""

from __future__ import annotations

import pytest

from cosp.tables.lines import CHOSEN, TO_TARGET_S, Line
from cosp.tables.sheets import (
    BUDGETS,
    Context,
    Sheet,
    beside_sheet,
    level_sheets,
    overview_sheet,
    untrained_notes,
)
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
    return tuple(level_sheets(lines, Context(lines[0].variant, target, BUDGETS.get((rule, "parameters"))), ""))


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
    accuracy, _, _ = level_sheets([other], Context("base", None, None), "")
    assert cells(accuracy, "other")["beside base"] == "–"
    assert other.spread(CHOSEN, None).mean == 0.7


def test_the_same_cells_in_markdown_and_latex():
    sheet = Sheet("t", ["variant", "accuracy"], [["a_b", "0.5 ± 0.1‡"]])
    assert markdown(sheet).splitlines() == ["| variant | accuracy |", "| --- | --- |", "| a_b | 0.5 ± 0.1‡ |"]
    assert r"a\_b & 0.5 $\pm$ 0.1$^\ddagger$ \\" in latex(sheet).splitlines()


def test_an_interval_ends_at_one(line):
    accuracy, _, _ = sheets(line("base", 0.99, 1.0, 0.93))
    low, high = cells(accuracy, "base")["95 % interval"].split(" to ")
    assert (low, high) == ("0.879", "1.000")
    assert cells(accuracy, "base")["chosen exit"] == "0.973 ± 0.038"  # what was measured stays


def test_exits_are_named_by_their_blocks_of_whichever_model(line):
    deep = line("deep", 0.8, exits=(3, 6), accuracy=(0.4, 0.5))
    flat = line("flat", 0.7, exits=(3,), accuracy=(0.3,), chosen_exit=0)
    _, exits, _ = sheets(deep, flat)
    assert cells(exits, "deep") == {"variant": "deep", "after block 3": "0.400", "after block 6": "0.500"}
    assert cells(exits, "flat")["after block 6"] == "–"


def test_an_exit_behind_a_block_that_nobody_trained_with_one_seed_is_marked_and_noted(line, outcome, curve):
    all_trained, one_not = outcome(), outcome(untrained=(2,))
    base = line("base", 0.8, 0.9, 0.7)
    late = Line(
        variant="late",
        outcomes={3: all_trained, 4: one_not, 5: all_trained},
        points=dict.fromkeys((3, 4, 5), curve(0.5)),
    )
    accuracy, exits, _ = sheets(base, late)
    told = cells(exits, "late")
    assert (told["after block 1"], told["after block 2"]) == ("0.400 ± 0.000", "0.500 ± 0.000 †")
    assert cells(accuracy, "late")["deepest exit"].endswith(" †")
    assert not any("†" in text for text in (*cells(exits, "base").values(), *cells(accuracy, "base").values()))
    assert untrained_notes({"easy": [base, late]}) == ["easy late: block 2 with seed 4 (1 of 3 seeds)"]
