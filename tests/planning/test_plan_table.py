from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cosp.config import load_config
from cosp.experiment import load_experiment
from cosp.planning.plan import plan_rows
from cosp.planning.table import count_text, percent, plan_table, span_text

QUICKSTART = Path(__file__).parents[2] / "experiments" / "quickstart.yaml"
BIG = ("model.dim=768", "model.heads=12", "model.hidden=3072", "model.blocks=12", "model.exits=[3, 6, 9, 12]")
TOO_BIG = ("model.dim=1536", "model.heads=12", "model.hidden=6144", "model.blocks=12", "model.exits=[3, 6, 9, 12]")
IN_TIME = "assignment={rule: time, target_round_s: 30}"


def planned(*overrides: str) -> list[dict[str, Any]]:
    return plan_rows(load_experiment(load_config(QUICKSTART, overrides)))


def lines(rows: list[dict[str, Any]]) -> list[str]:
    screen = io.StringIO()
    Console(file=screen, width=80).print(plan_table(rows, "Submodels"))
    return screen.getvalue().splitlines()


@pytest.mark.parametrize("overrides", [(), ("fleet=colext28",), ("fleet=phones24",), BIG, (*BIG, IN_TIME)])
def test_eighty_columns_show_every_board_in_full(overrides):
    rows = planned(*overrides)
    shown = lines(rows)
    assert max(map(len, shown)) <= 80
    assert not [line for line in shown if "…" in line]
    for row in rows:
        assert [line for line in shown if line.startswith(f"{row['client']} ") and row["board"] in line]


def test_the_table_names_what_binds_and_how_far_it_is_used():
    shown = lines(planned())
    nano = next(i for i, line in enumerate(shown) if line.startswith("2 "))
    assert "keep 0.25" in shown[nano]
    assert shown[nano + 1].endswith(percent(planned()[2]["used"]["keep"]))
    assert "nothing" in next(line for line in shown if line.startswith("0 "))


def test_a_keep_ratio_binds_all_but_who_holds_everything():
    for row in planned():
        assert row["binding"] == ([] if row["keep"] == 1.0 else ["keep"])
        assert 0.9 < row["used"]["keep"] <= 1
        assert 0 < row["used"]["memory"] < 0.01
        assert row["used"]["time"] is None


def test_a_target_time_binds_the_slow_and_not_the_fast():
    rows = {row["client"]: row for row in planned("assignment={rule: time, target_round_s: 0.06}")}
    assert rows[15]["binding"] == []  # an AGX Orin trains it all
    assert rows[4]["binding"] == ["time"]  # a TX2 does not
    assert all(row["used"]["time"] <= 1 for row in rows.values())
    assert {row["used"]["keep"] for row in rows.values()} == {None}


def test_a_target_beside_a_keep_ratio_binds_whom_it_makes_shallower():
    before, after = planned(), planned("assignment.target_round_s=0.03")
    assert any(row["binding"] == ["time"] for row in after)
    for unhurried, row in zip(before, after, strict=True):
        assert (row["binding"] == ["time"]) == (row["depth"] < unhurried["depth"])
        assert row["depth"] == 1 or row["used"]["time"] <= 1


def test_mixed_precision_trades_arithmetic_for_launches_on_gpus_and_changes_nothing_on_cpus():
    plain, mixed = (planned("fleet=colext28", *BIG, f"training.precision={name}") for name in ("float32", "mixed"))
    for before, after in zip(plain, mixed, strict=True):
        if before["board"] in ("orange-pi-5b", "lattepanda-delta-3") or before["board"].startswith("phone"):
            assert after == before
        else:
            assert (before["precision"], after["precision"]) == ("float32", "mixed")
            assert after["memory_bytes"] <= before["memory_bytes"]
            assert after["step_parts_s"]["launches"] > before["step_parts_s"]["launches"]
            assert after["step_parts_s"]["arithmetic"] <= 1.001 * before["step_parts_s"]["arithmetic"]
            assert after["bytes_up"] == before["bytes_up"]


def test_checkpointing_trades_arithmetic_for_memory():
    once, twice = (planned("training.batch_size=64", f"training.checkpointing={given}") for given in ("false", "true"))
    assert sum(after["memory_bytes"] < before["memory_bytes"] for before, after in zip(once, twice, strict=True)) > 4
    for before, after in zip(once, twice, strict=True):
        assert (before["checkpointing"], after["checkpointing"]) == (False, True)
        assert after["memory_bytes"] <= before["memory_bytes"]
        steps = [row["step_parts_s"]["arithmetic"] for row in (before, after)]
        assert steps[0] < steps[1] < 4 / 3 * steps[0] or after["depth"] == 1
        assert (after["parameters"], after["bytes_up"]) == (before["parameters"], before["bytes_up"])


def test_halves_of_what_is_frozen_take_half_the_memory_and_the_bytes_of_a_first_task():
    changes = ("model.adapters={rank: 2}", "method={name: hetlora}")
    whole, halves = (planned(*changes, f"training.frozen_as={form}") for form in ("float32", "float16"))
    for before, after in zip(whole, halves, strict=True):
        assert (before["frozen_as"], after["frozen_as"]) == ("float32", "float16")
        assert after["memory_bytes"] < before["memory_bytes"]
        assert before["bytes_down_first"] / 2 < after["bytes_down_first"] < 0.6 * before["bytes_down_first"]
        assert (after["bytes_down"], after["bytes_up"]) == (before["bytes_down"], before["bytes_up"])
        assert after["step_parts_s"]["launches"] > before["step_parts_s"]["launches"]


def test_memory_binds_where_it_is_short():
    fleet = "fleet={boards: [{device: jetson-nano, link: wifi}, {device: jetson-agx-orin-64, link: ethernet}]}"
    nano, orin = planned(*TOO_BIG, fleet)
    assert nano["binding"] == ["memory"]
    assert 0.9 < nano["used"]["memory"] <= 1
    assert orin["binding"] == []


def test_who_is_given_more_than_it_can_hold_is_marked():
    rows = planned(*TOO_BIG, "fleet={boards: [{count: 2, device: jetson-nano, link: wifi, keep: 1.0}]}")
    assert rows[0]["used"]["memory"] > 1
    assert sum(" !" in line for line in lines(rows)) == 2


def test_one_small_model_for_all_is_the_methods_doing():
    rows = planned("method={name: fedavg, submodel: smallest}")
    assert {tuple(row["binding"]) for row in rows} == {("method",)}


def test_figures_are_short():
    assert (count_text(950), count_text(204_520), count_text(85_143_592)) == ("950", "205k", "85.1M")
    assert (percent(0.0009), percent(0.87), percent(1.31)) == ("0.1 %", "87 %", "131 % !")
    assert (span_text(0.0412, 0.117), span_text(55.0, 80.0)) == ("41.2 - 117 ms", "55 - 80 s")
    assert (span_text(4000, 9000), span_text(0.5, 1.13)) == ("1.11 - 2.5 h", "500 - 1130 ms")


def test_a_share_of_keep_is_of_what_the_budget_counts():
    rows = planned("method={name: heterofl, budget: flops}")
    assert all(0.7 < row["used"]["keep"] <= 1 for row in rows if row["binding"] == ["keep"])
    assert any(row["share"] > row["keep"] for row in rows)  # of the parameters it is more
