"""What a file's table section asks for."""

from __future__ import annotations

import pytest

from cosp.errors import ConfigError


def test_levels_are_all_combinations_of_the_axes(plan):
    levels = plan().levels
    assert [level.name for level in levels] == ["easy-mild", "easy-harsh", "hard-mild", "hard-harsh"]
    assert [level.target_accuracy for level in levels] == [0.5, 0.5, 0.4, 0.4]
    assert levels[3].changes == {"data.train": 50, "data.partition.alpha": 0.1}


def test_a_cell_is_the_file_changed_by_level_variant_search_and_seed(plan):
    table = plan(overrides=["jitter=0.0"])
    cell = table.cell(table.levels[3], "prox", {"training.learning_rate": 0.004}, 9)
    assert cell.name == "hard-harsh/prox/training.learning_rate=0.004/seed9"
    config = cell.config
    assert (config.method.name, config.data.train, config.data.partition.alpha) == ("fedprox", 50, 0.1)
    assert (config.training.learning_rate, config.seed, config.jitter) == (0.004, 9, 0.0)


def test_a_variant_may_have_a_search_of_its_own(plan):
    table = plan()
    assert len(table.candidates("prox")) == 3
    assert table.candidates("pm") == [{"method.score_learning_rate": 0.1}, {"method.score_learning_rate": 0.3}]
    assert table.edges("prox", {"training.learning_rate": 0.002}) == []
    assert table.edges("prox", {"training.learning_rate": 0.004}) == ["training.learning_rate"]


def test_seeds_are_the_files_unless_others_are_asked_for_and_the_first_is_searched_on(plan):
    assert (plan().seeds, plan().search_seed) == ((3, 4), 3)
    assert (plan(seeds=[7]).seeds, plan(seeds=[7]).search_seed) == ((7,), 7)
    assert plan(("target_accuracy: 0.5", "search_seed: 5")).search_seed == 5


def test_the_section_itself_may_be_overridden_and_is_no_part_of_a_result(plan):
    changed = plan(overrides=["table.seeds=[8]", "table.search={training.learning_rate: [0.5]}", "jitter=0.0"])
    assert (changed.seeds, changed.candidates("prox")) == ((8,), [{"training.learning_rate": 0.5}])
    same = plan(overrides=["jitter=0.0"])
    assert changed.cell(changed.levels[0], "prox", {}, 0).key == same.cell(same.levels[0], "prox", {}, 0).key
    with pytest.raises(ConfigError, match="table: unknown key 'seads'"):
        plan(overrides=["table.seads=[8]"])


def test_what_a_result_depends_on_changes_its_key_and_a_title_does_not(plan):
    def key(*changes):
        table = plan(*changes)
        return table.cell(table.levels[0], "prox", {}, 0).key

    assert key() == key(("name: tiny", "name: other\ntitle: A table"))
    assert key() != key(("patch: 4", "patch: 2"))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("seeds:", "seads:"), "table: unknown key 'seads'"),
        (("search_of: {pm:", "search_of: {pn:"), "unknown variant 'pn'"),
        (("[0.001, 0.002, 0.004]", "[0.001, -1]"), "learning_rate must be"),
        (("skew: {mild: {data.partition.alpha: 1.5}", "skew: {mild: {data.partition.alpa: 1.5}"), "easy-mild: .*alpa"),
        (
            ("prox: {method: {name: fedprox}}", "prox: {server.quorom: 1}"),
            ": easy-mild: prox: server: unknown key 'quorom'",
        ),
        (("[0.001, 0.002, 0.004]", "[]"), "search.training.learning_rate: .* at least 1 item"),
        (("[3, 4]", "[3, 3]"), r"table: seeds: must differ, got \[3, 3\]"),
        (("[3, 4]", "[3, -4]"), "table: seeds.1: must be greater than or equal to 0"),
        (
            ("table.target_accuracy: 0.4", "table.target_accuracy: high"),
            "table.grid: target_accuracy: must be a valid number",
        ),
        (
            ("data: {easy: {data.train: 100}", "data: {easy/: {data.train: 100}"),
            "table.grid: a name must be letters, digits",
        ),
        (
            ("skew: {mild: ", "skew: {mild: {}, mild-x: {}}\n    more: {x: {}, x-x: "),
            "two levels are called easy-mild-x-x",
        ),
        (("skew: {mild: ", "more: {}\n    skew: {mild: "), "grid.more: .* at least 1 item"),
    ],
)
def test_whatever_is_wrong_is_told_before_anything_runs(plan, change, told):
    with pytest.raises(ConfigError, match=told):
        plan(change)


def test_levels_can_be_asked_for_by_name(plan):
    assert [level.name for level in plan(at=["hard-mild"]).levels] == ["hard-mild"]
    with pytest.raises(ConfigError, match="level of the grid 'hard-milt'.*did you mean 'hard-mild'"):
        plan(at=["hard-milt"])


def test_the_reference_is_always_there_and_must_be_a_line(plan):
    change = ("  seeds: [3, 4]", "  seeds: [3, 4]\n  reference: pm")
    assert plan(change, only=["prox"]).variants == ("base", "pm", "prox")
    with pytest.raises(ConfigError, match="unknown variant 'mp'; known: base, prox, pm"):
        plan((change[0], change[1].replace("pm", "mp")))


def test_a_variant_can_have_seeds_of_its_own(plan):
    change = ("  seeds: [3, 4]", "  seeds: [3, 4]\n  seeds_of: {pm: [3, 4, 5]}")
    found = plan(change)
    assert (found.seeds_of("prox"), found.seeds_of("pm")) == ((3, 4), (3, 4, 5))
    assert found.seeds_text == "3, 4; 3, 4, 5 of pm"
    asked = plan(change, seeds=[7])
    assert (asked.seeds_of("pm"), asked.seeds_text) == ((7,), "7")
    with pytest.raises(ConfigError, match="unknown variant 'mp'"):
        plan(("  seeds: [3, 4]", "  seeds: [3, 4]\n  seeds_of: {mp: [3]}"))
