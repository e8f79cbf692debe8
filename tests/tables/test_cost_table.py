"""Tables of costs: what dry runs of a tiny fleet say of its variants."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from rich.console import Console

from cosp.errors import ConfigError, UserError
from cosp.fleet import load_profile
from cosp.tables.costs import fill_cost_table

CONFIG = """
name: tiny
data: {name: pictures, declared: {shape: [1, 8, 8], classes: 4, samples_per_client: 40}}
fleet:
  boards:
    - {count: 3, device: jetson-nano, link: wifi, keep: 0.5}
    - {count: 1, device: jetson-agx-orin-64, link: ethernet, keep: 1.0}
model: {patch: 4, dim: 16, blocks: 2, heads: 2, hidden: 16, exits: [1, 2]}
method: {name: co-s2p}
training: {epochs: 1, batch_size: 16}
server: {versions: 4, quorum: 0.5}
variants:
  synchronous: {server.quorum: 1.0}
  full: {method: {name: fedavg}, server.quorum: 1.0}
"""

pytestmark = pytest.mark.integration


def fill(folder: Path, only: list[str] | None = None, text: str = CONFIG) -> dict[str, bytes]:
    """Every file of the table."""
    (folder / "tiny.yaml").write_text(text, encoding="utf-8")
    fill_cost_table(
        folder / "tiny.yaml",
        seeds=[0, 1],
        only=only,
        folder=folder / "results",
        overrides=[],
        data_dir=None,
        console=Console(quiet=True),
    )
    return {path.name: path.read_bytes() for path in sorted((folder / "results").iterdir())}


def lines_of(table: bytes) -> dict[str, dict[str, str]]:
    lines = list(csv.DictReader(table.decode().splitlines()))
    return {line["variant"] + line.get("client", ""): line for line in lines}


def test_a_table_says_what_each_variant_and_each_board_takes(tmp_path: Path):
    files = fill(tmp_path)
    assert list(files) == ["boards.csv", "memory.svg", "table.csv", "table.md", "times.svg"]
    costs, boards = lines_of(files["table.csv"]), lines_of(files["boards.csv"])
    assert list(costs) == ["base", "synchronous", "full"]
    for name in ("synchronous", "full"):  # a synchronous round merges one update of each client
        assert costs[name]["hours a round"] == costs[name]["hours a turn"]
    assert float(costs["base"]["hours a round"]) < float(costs["base"]["hours a turn"])
    assert float(costs["full"]["relative"]) > 1 == float(costs["base"]["relative"])
    assert int(boards["base0"]["parameters"]) < int(boards["full0"]["parameters"]) == int(boards["base3"]["parameters"])
    assert int(boards["base0"]["limit_bytes"]) == load_profile("jetson-nano").memory_bytes
    assert boards["full0"]["scoring_bytes"] == "0"
    slowest = max(float(boards[f"full{client}"]["task_s"]) for client in range(4))
    assert float(costs["full"]["hours a round"]) * 3600 >= 0.99 * slowest


def test_the_same_configuration_gives_the_same_files(tmp_path: Path):
    assert fill(tmp_path, ["base", "full"]) == fill(tmp_path, ["base", "full"])


def test_where_no_board_is_limited_all_count(tmp_path: Path):
    (line,) = lines_of(fill(tmp_path, ["base"], CONFIG.replace("keep: 0.5", "keep: 1.0"))["table.csv"]).values()
    assert line["memory in training"] == line["with importance learning"]


def test_a_file_in_the_folder_s_place_is_named(tmp_path: Path):
    (tmp_path / "results").touch()
    with pytest.raises(UserError, match=r"results: cannot be written \(File exists\)"):
        fill(tmp_path, ["base"])


def test_an_unknown_variant_is_an_error(tmp_path: Path):
    with pytest.raises(ConfigError, match="unknown variant 'ful'"):
        fill(tmp_path, ["ful"])
