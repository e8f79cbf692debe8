"""What is said before a run: blocks that no board would train."""

from __future__ import annotations

from pathlib import Path

import pytest

from cosp.config import load_config
from cosp.experiment import load_experiment
from cosp.planning.caution import caution

QUICKSTART = Path(__file__).parents[2] / "experiments" / "quickstart.yaml"
HALF = "fleet={boards: [{count: 4, device: jetson-nano, link: wifi, keep: 0.5}]}"


def said(*overrides: str) -> str:
    return caution(load_experiment(load_config(QUICKSTART, overrides)))


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        (HALF, "method={name: heterofl}"),  # keeps every block
        (HALF, "method={name: fedavg, submodel: smallest}"),  # whose result is that submodel
        (HALF, "method={name: fedavg}"),
    ],
)
def test_nothing_is_said_where_every_block_has_a_board(overrides):
    assert said(*overrides) == ""


def test_blocks_that_no_keep_ratio_reaches_are_named():
    told = "trained by nobody: block 3, 4 of 4, which no board holds; the exit after block 3, 4 stays as it is drawn."
    assert said(HALF).startswith(told)


def test_a_target_time_may_take_every_deep_block_away():
    assert said("assignment.target_round_s=0.001").startswith("trained by nobody: block 2, 3, 4 of 4, ")


def test_who_takes_part_may_train_it_all():
    able = "{count: 1, device: jetson-nano, link: wifi, keep: 1.0}"
    fleet = HALF.replace("[", f"[{able}, ")
    assert said(fleet, "method={name: fedavg, submodel: fitting}") == ""
