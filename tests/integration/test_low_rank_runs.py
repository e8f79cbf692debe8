"""Runs with adapters: the same rows by any workers, resumed and dry; a final model without; wrong input is one line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from small_models import model_with
from tiny_runs import TINY, whole_and_resumed_rows

from cosp.checkpoints.own import read_boards, read_facts
from cosp.config import load_config
from cosp.errors import ConfigError
from cosp.experiment import load_experiment
from cosp.export.write import export
from cosp.run import checkpoint
from cosp.run.directory import RunDirectory
from cosp.simulation.simulate import simulate

pytestmark = pytest.mark.integration
Run = Callable[..., list[dict[str, Any]]]
ADAPTERS = "model.adapters={rank: 4, projections: [query, value, up, down]}"
FAMILY = ("fedavg-lora", "hetlora", "flexlora", "flora")


def written(tmp_path: Path, **changes: Any) -> Path:
    path = tmp_path / "low.yaml"
    model = {**TINY["model"], "adapters": {"rank": 4}}
    path.write_text(
        yaml.safe_dump({**TINY, "model": model, "method": {"name": "hetlora"}, **changes}), encoding="utf-8"
    )
    return path


@pytest.mark.parametrize("method", FAMILY)
def test_a_run_that_is_resumed_by_more_workers_writes_the_same_rows(tmp_path: Path, method: str):
    path = written(tmp_path, method={"name": method}, server={**TINY["server"], "checkpoint_every": 1})
    config = load_config(path)
    directory = RunDirectory.create(tmp_path / "run", config)
    whole, resumed = whole_and_resumed_rows(path, load_experiment(config), directory, tmp_path / "killed")
    assert whole == resumed


@pytest.mark.parametrize(
    ("method", "form"), [*((method, "float32") for method in FAMILY), ("hetlora", "float16"), ("flora", "bfloat16")]
)
def test_a_dry_run_has_the_same_bytes_and_trains_the_same_blocks(run: Run, method: str, form: str):
    fleet, held = "fleet={boards: [{count: 3, device: jetson-nano, link: wifi}]}", f"training.frozen_as={form}"
    changes = (ADAPTERS, f"method={{name: {method}}}", held, fleet)
    real, dry = run(*changes, workers=0), run(*changes, out="dry", dry=True)
    sent = [[(r["bytes_down"], r["bytes_up"]) for r in rows if r["kind"] == "arrival"] for rows in (real, dry)]
    assert sent[0] == sent[1]
    blocks = [[[held > 0 for held in r["coverage"]] for r in rows if r["kind"] == "round"] for rows in (real, dry)]
    assert blocks[0] == blocks[1]
    assert all(blocks[0][-1])


def test_adapters_change_nothing_of_what_is_drawn_beside_them(tmp_path: Path):
    with_them = load_experiment(load_config(written(tmp_path)))
    plain = load_experiment(load_config(written(tmp_path), ("model.adapters=null", "method={name: fedavg}")))
    state, without = with_them.initial_model(), plain.initial_model()
    assert all(torch.equal(state[name], tensor) for name, tensor in without.items())
    assert all(".adapters." in name for name in state.keys() - without.keys())


def test_the_final_model_is_folded_and_leaves_as_one_without_adapters(tmp_path: Path):
    config = load_config(written(tmp_path))
    experiment, directory = load_experiment(config), RunDirectory.create(tmp_path / "run", config)
    simulate(experiment, directory, workers=0)
    folder = tmp_path / "run" / "model"
    facts, state = read_facts(folder / "cosp.json"), load_file(folder / "model.safetensors")
    assert facts.shape == replace(experiment.shape, adapters=None)
    assert not any("adapters" in name for name in state)
    assert all(
        board.plan is None or board.plan.blocks[0].ranks == () for board in read_boards(folder, facts.shape).values()
    )
    saved = checkpoint.load(directory.checkpoints)
    assert saved is not None
    held = {
        key.partition("/")[2].partition("/")[2]: t for key, t in saved.tensors.items() if key.startswith("version/6/")
    }
    x = torch.from_numpy(np.asarray(experiment.splits["test"].x[:32]))
    with torch.no_grad():
        ours, theirs = model_with(experiment.shape, held)(x), model_with(facts.shape, state)(x)
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(ours, theirs, strict=True))
    said = export(tmp_path / "run", tmp_path / "out", kind="torch")
    assert "1" in said.checks[0]


def test_a_narrow_trunk_has_adapters_too(run: Run, tmp_path: Path):
    """A submodel and adapters in one plan: units by a client's data, of which the trunk's are frozen."""
    rows = run(ADAPTERS, "training={epochs: 1, batch_size: 16, frozen: [trunk]}", workers=0)
    arrivals = [row for row in rows if row["kind"] == "arrival" and row["task"] == "train"]
    assert len({row["parameters"] for row in arrivals}) > 1
    assert all(row["accepted"] for row in arrivals)
    experiment = load_experiment(load_config(tmp_path / "tiny.yaml", (ADAPTERS,)))
    began = experiment.initial_model()
    tensors = load_file(next((tmp_path / "run" / "checkpoint").glob("*.safetensors")))
    left = {name.rpartition("/")[2]: value for name, value in tensors.items() if name.startswith("version/6/")}
    moved = {name for name, value in left.items() if not torch.equal(value, began[name])}
    assert moved == {name for name in began if ".adapters." in name or name.startswith("exits.")}


def test_what_moves_with_its_units_is_sent_anew(run: Run):
    """Frozen weights of units that a client did not hold before."""
    rolling = "method={name: co-s2p, units: rolling, depth_share: 0.0}"
    standing = "method={name: co-s2p, units: prefix, depth_share: 0.0}"
    frozen = "training={epochs: 1, batch_size: 16, frozen: [trunk]}"

    def sent(method: str, out: str) -> list[int]:
        rows = run(ADAPTERS, frozen, method, "server.quorum=1.0", out=out, workers=0)
        return [row["bytes_down"] for row in rows if row["kind"] == "arrival" and row["client"] == 0]

    first, *later = sent(standing, "standing")
    assert max(later) < first / 2
    assert max(sent(rolling, "rolling")[1:]) > max(later)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (["model.adapters.rank=0"], "rank must be a whole number of at least 1, got 0"),
        (
            ["model.adapters.projections=[queries]"],
            "projections must name some of query, key, value, output, up, down, got 'queries'",
        ),
        (["model.adapters.rank=17"], "adapters.rank must be at most 16"),
        (["model.adapters=null"], "method hetlora trains adapters, and the model has none: give model.adapters"),
        (
            ["model.adapters=null", "method={name: fedavg}", "training.frozen=[trunk]"],
            "training.frozen: trunk leaves nothing of the blocks to train: give model.adapters",
        ),
        (["method={name: fiarse}"], "model.adapters does not go with method fiarse"),
        (["method={name: q-vit}"], "model.adapters does not go with method q-vit"),
    ],
)
def test_wrong_adapters_are_one_line(tmp_path: Path, changes: list[str], line: str):
    with pytest.raises(ConfigError) as error:
        load_experiment(load_config(written(tmp_path), changes))
    assert line in str(error.value)
    assert "\n" not in str(error.value)


def test_rows_name_the_bytes_of_adapters_alone(run: Run):
    rows = run(ADAPTERS, "method={name: hetlora}", workers=0)
    up = {row["client"]: row["bytes_up"] for row in rows if row["kind"] == "arrival" and row["task"] == "train"}
    thin = {ranks: 2 * ranks * (2 * (16 + 16) + 2 * (16 + 16)) for ranks in (2, 4)}
    exits = 2 * (2 * 16 + 16 * 10 + 10)
    assert up[0] == 4 * (thin[2] + exits)
    assert up[3] == 4 * (thin[4] + exits)
