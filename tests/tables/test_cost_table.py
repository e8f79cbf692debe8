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


def fill(folder: Path, only: list[str] | None = None, text: str = CONFIG, **asked) -> dict[str, bytes]:
    """Every file of the table."""
    (folder / "tiny.yaml").write_text(text, encoding="utf-8")
    fill_cost_table(
        folder / "tiny.yaml",
        **{"seeds": [0, 1], **asked},
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


REFUSED = (
    CONFIG
    + """  mask: {method: {name: fiarse}}
  tiny_boards: {fleet: {boards: [{count: 4, device: jetson-nano, link: wifi, keep: 0.01}]}}
assignment: {rule: memory_share}
"""
)
GRID = (
    REFUSED
    + """table:
  seeds: [3]
  search: {training.learning_rate: [0.001, 0.002]}
  grid:
    size: {small: {}, wide: {model.hidden: 64}}
"""
)


def test_a_line_that_is_refused_is_named_and_the_others_go_on(tmp_path: Path):
    files = fill(tmp_path, text=REFUSED)
    assert list(lines_of(files["table.csv"])) == ["base", "synchronous", "full"]
    told = files["table.md"].decode()
    assert "- mask: variant mask: assignment.rule: the method holds the whole model on every board" in told
    assert "- tiny_boards: variant tiny_boards: client 0 (jetson-nano, wifi): keep: no submodel fits " in told
    costs, boards = lines_of(files["table.csv"]), lines_of(files["boards.csv"])
    assert int(boards["base0"]["limit_bytes"]) < load_profile("jetson-nano").memory_bytes  # its share, which binds
    assert (costs["base"]["boards over their limit"], costs["full"]["boards over their limit"]) == ("0", "3")


def test_a_table_of_which_every_line_is_refused_is_an_error_and_writes_nothing(tmp_path: Path):
    with pytest.raises(UserError, match=r"tiny.yaml: no line can be run, 1 are refused; mask: variant mask: assignm"):
        fill(tmp_path, ["mask"], text=REFUSED)
    assert not (tmp_path / "results").exists()


def test_a_grid_has_a_table_and_figures_for_each_level(tmp_path: Path):
    files = fill(tmp_path, ["base", "mask"], text=GRID, seeds=None)
    assert {"memory-small.svg", "memory-wide.svg", "times-small.svg", "times-wide.svg"} < set(files)
    rows = list(csv.DictReader(files["table.csv"].decode().splitlines()))
    assert [(row["level"], row["variant"]) for row in rows] == [("small", "base"), ("wide", "base")]
    assert list(csv.DictReader(files["boards.csv"].decode().splitlines()))[-1]["level"] == "wide"
    told = files["table.md"].decode()
    assert "seeds 3." in told
    assert "## wide" in told
    assert "- wide mask: " in told


def test_one_level_of_a_grid_may_be_asked_for(tmp_path: Path):
    assert "memory-wide.svg" in (files := fill(tmp_path, ["base"], text=GRID, at=["wide"]))
    assert "memory-small.svg" not in files
    with pytest.raises(ConfigError, match="--at wide: .* has no grid"):
        fill(tmp_path, ["base"], at=["wide"])


def test_a_table_of_trained_runs_is_not_overwritten(tmp_path: Path):
    (tmp_path / "results/runs").mkdir(parents=True)
    with pytest.raises(UserError, match="holds a table of runs that were trained; remove it, or give another --out"):
        fill(tmp_path, ["base"])


def test_blocks_that_nobody_trains_are_told(tmp_path: Path):
    shallow = CONFIG.replace("{name: co-s2p}", "{name: co-s2p, depth_share: 1.0}")
    shallow = shallow.replace("keep: 1.0", "keep: 0.6").replace("keep: 0.5", "keep: 0.6")
    assert "- base: 2" in fill(tmp_path, ["base"], text=shallow)["table.md"].decode()
