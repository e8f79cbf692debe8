from __future__ import annotations

import csv
from pathlib import Path
from typing import get_args

from cosp.config import load_config
from cosp.experiment import load_experiment
from cosp.simulation import virtual_grid
from cosp.simulation.dry import DryPool
from cosp.simulation.virtual_grid import FIRST_NODE, VirtualGrid
from cosp.wire import door

CONFIG = Path(__file__).parents[2] / "experiments/dry_10k.yaml"
WINDOWS = {0: (0.0, 10.0), 1: (5.0, 20.0), 2: (0.0, 20.0)}


def grid_of(tmp_path: Path) -> VirtualGrid:
    with (tmp_path / "trace.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("client", "start_s", "end_s"), *((c, *window) for c, window in WINDOWS.items())])
    board = {"device": "jetson-nano", "link": "wifi", "availability": {"trace": {"path": str(tmp_path / "trace.csv")}}}
    boards = [{**board, "count": 3}, {"device": "jetson-nano", "link": "ethernet", "count": 2}]
    experiment = load_experiment(load_config(CONFIG).model_copy(update={"fleet": {"boards": boards}}))
    return VirtualGrid(experiment.fleet, experiment.introductions, DryPool(experiment.introductions), sigma=0.0)


def test_a_turn_changes_one_node_of_a_set_that_stays(tmp_path: Path):
    grid, seen = grid_of(tmp_path), {}
    on = grid.get_node_ids()
    for time_s in (1.0, 5.0, 9.0, 10.0, 20.0):
        grid.jump_to(time_s)
        assert grid.get_node_ids() is on
        seen[time_s] = sorted(node - FIRST_NODE for node in on)
    assert seen == {1.0: [0, 2, 3, 4], 5.0: [0, 1, 2, 3, 4], 9.0: [0, 1, 2, 3, 4], 10.0: [1, 2, 3, 4], 20.0: [3, 4]}


def test_all_boards_introduce_themselves_in_the_time_of_a_message_there_and_back(tmp_path: Path):
    grid = grid_of(tmp_path)
    guests = grid.meet()
    slowest_s = max(2 * board.link.latency_s for board in grid._boards)
    assert grid.clock() == slowest_s > 0
    assert [guests.nodes.node_of(client.client) for client in guests.clients] == [FIRST_NODE + n for n in range(5)]
    assert [client.link for client in guests.clients] == ["wifi"] * 3 + ["ethernet"] * 2


def test_what_a_board_may_lose_a_task_by_has_a_name_at_the_door():
    assert {*virtual_grid.LOSSES, virtual_grid.KILLED} == set(get_args(door.Loss)) <= set(door.REASONS)
