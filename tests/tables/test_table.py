"""Tables from rows: what a cell reads off a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from cosp.errors import ConfigError, UserError
from cosp.tables.plain import fill_table

CONFIG = """
name: tiny
data: {name: digits, train: 200, validation: 50, test: 100, partition: {kind: iid}}
fleet: equal4
model: {patch: 4, dim: 16, blocks: 2, heads: 2, hidden: 16, exits: [1, 2]}
method: {name: fedavg}
training: {epochs: 1, batch_size: 16}
server: {versions: 2, quorum: 1.0}
variants:
  longer: {server.versions: 3}
"""


def fill(tmp_path: Path, only: list[str] | None = None, *overrides: str, text: str = CONFIG) -> Path:
    return fill_all(tmp_path, only, *overrides, text=text)[0]


def fill_all(
    tmp_path: Path, only: list[str] | None = None, *overrides: str, text: str = CONFIG
) -> tuple[Path, dict[str, str]]:
    (tmp_path / "tiny.yaml").write_text(text, encoding="utf-8")
    return fill_table(
        tmp_path / "tiny.yaml",
        seeds=[0],
        only=only,
        folder=tmp_path / "results",
        workers=1,
        overrides=overrides,
        data_dir=None,
        console=Console(quiet=True),
    )


@pytest.mark.integration
def test_equal_rounds_and_equal_time_are_those_of_the_base_run_and_cells_are_not_run_again(tmp_path: Path):
    text = fill(tmp_path).read_text(encoding="utf-8")
    base, longer = (line.split(" | ") for line in text.splitlines() if line.startswith(("| base", "| longer")))
    assert base[1:] == longer[1:]  # the third version lies after the base run's last one
    accuracy = json.loads((tmp_path / "results/base/seed0/metrics.json").read_text())["final"]["global"]["accuracy"]
    assert base[1] == f"{accuracy[-1]:.3f}"
    written = (tmp_path / "results/longer/seed0/metrics.json").stat().st_mtime_ns
    assert fill(tmp_path).read_text(encoding="utf-8") == text
    assert (tmp_path / "results/longer/seed0/metrics.json").stat().st_mtime_ns == written
    with pytest.raises(UserError, match="base/seed0: holds a run of another configuration than is asked for now"):
        fill(tmp_path, None, "model.hidden=8")
    rows = tmp_path / "results/base/seed0/rows.jsonl"
    header, _, rest = rows.read_text(encoding="utf-8").partition("\n")
    rows.write_text(header.replace("{", '{"dry": true, ', 1) + "\n" + rest, encoding="utf-8")
    with pytest.raises(UserError, match="base/seed0: holds a dry run, which trained nothing; remove it"):
        fill(tmp_path)


def test_an_unknown_variant_is_an_error_before_anything_runs(tmp_path: Path):
    with pytest.raises(ConfigError, match="unknown variant 'longest'"):
        fill(tmp_path, ["longest"])
    assert not (tmp_path / "results").exists()


def test_a_wrong_variant_is_told_by_its_name_before_anything_runs(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"tiny.yaml: longer: server.versions: must be greater than or equal to 1"):
        fill(tmp_path, text=CONFIG.replace("versions: 3", "versions: 0"))
    assert not (tmp_path / "results").exists()


@pytest.mark.integration
def test_a_variant_that_is_refused_is_named_and_the_others_go_on(tmp_path: Path):
    text = CONFIG + "  mask: {method: {name: fiarse}, assignment: {rule: memory_share}}\n"
    path, failed = fill_all(tmp_path, ["mask", "longer"], text=text)
    assert list(failed) == ["mask/seed0"]
    table = path.read_text(encoding="utf-8")
    assert "Refused: mask/seed0: variant mask: assignment.rule: the method holds the whole model" in table
    assert [row.split(" | ")[0] for row in table.splitlines() if row.startswith("| ")][2:] == ["| base", "| longer"]
