"""A pretrained model's heads are fitted to the boards' summed moments before anything is trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface as hf
import numpy as np
import pytest
import torch
import yaml
from test_every_method import OwnPool
from test_flower_apps import AppGrid
from tiny_runs import TINY, killed_run, rows_of

from cosp.config import load_config
from cosp.errors import ConfigError
from cosp.experiment import Experiment, load_experiment
from cosp.merge.ridge import Moments, fitted_head
from cosp.models.transformer import Transformer
from cosp.planning.caution import caution
from cosp.run.directory import RunDirectory
from cosp.run.evaluation import in_process
from cosp.run.serve import serve
from cosp.simulation.simulate import simulate
from cosp.simulation.virtual_grid import VirtualGrid
from cosp.trainer.store import open_store, write_store
from cosp.trainer.trainer import Trainer

pytestmark = pytest.mark.integration

Row = dict[str, Any]
Start = Callable[..., tuple[Experiment, RunDirectory]]
QUICK = ("server.versions=2", "server.checkpoint_every=1")
AVERAGED = "method={name: fedavg}"  # which sends weights as they are


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A ViT whose head is of other classes than the digits."""
    return f"model={{pretrained: {hf.saved(hf.classifier('vit'), tmp_path_factory.mktemp('vit') / 'model')}}}"


@pytest.fixture
def config(tmp_path: Path, vit: str) -> Path:
    model = yaml.safe_load(vit.removeprefix("model="))
    path = tmp_path / "heads.yaml"
    path.write_text(yaml.safe_dump({**TINY, "model": model}), encoding="utf-8")
    return path


@pytest.fixture
def go(start: Start, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Experiment, list[Row]]]:
    """Return a function that runs a tiny experiment in this process."""

    def run(*overrides: str) -> tuple[Experiment, list[Row]]:
        folder = tmp_path_factory.mktemp("run")
        experiment, directory = start(*QUICK, *overrides, out=str(folder / "out"))
        write_store(folder, experiment.splits, experiment.rows)
        trainer = Trainer(*open_store(folder))
        grid = VirtualGrid(experiment.fleet, experiment.introductions, OwnPool(trainer), sigma=0.05)
        serve(grid, experiment, directory, evaluate_with=in_process(trainer))
        return experiment, rows_of(directory.folder)

    return run


def of_kind(rows: list[Row], kind: str) -> list[Row]:
    return [row for row in rows if row["kind"] == kind]


def tasks(rows: list[Row], task: str) -> list[Row]:
    return [row for row in of_kind(rows, "arrival") if row["task"] == task]


@torch.no_grad()
def central(experiment: Experiment) -> list[dict[str, float]]:
    """Fit the heads of the whole model to all boards' data in one place; return alpha and test accuracy of each."""
    model = Transformer(experiment.shape)
    model.load_state_dict(experiment.initial_model())
    train, test = experiment.splits["train"], experiment.splits["test"]
    own = np.concatenate([np.asarray(rows[0]) for rows in experiment.rows])
    y = torch.nn.functional.one_hot(torch.from_numpy(train.y[own]), experiment.shape.classes).double()
    read = list(model.features_in_turn(torch.from_numpy(np.asarray(train.x[own]))))
    asked = list(model.features_in_turn(torch.from_numpy(np.asarray(test.x))))
    found = []
    for own_features, test_features in zip(read, asked, strict=True):
        z = torch.cat([own_features.double(), torch.ones(len(own), 1)], 1)
        head = fitted_head(Moments((z.T @ z).numpy(), (z.T @ y).numpy()))
        predicted = (test_features.numpy() @ head.weight.T + head.bias).argmax(1)
        found.append({"alpha": head.alpha, "accuracy": float((predicted == test.y).mean())})
    return found


def test_version_0_has_the_heads_of_all_boards_data_together(go, vit: str):
    experiment, rows = go(vit, AVERAGED)
    (told,), expected = of_kind(rows, "heads"), central(experiment)
    assert [one["alpha"] for one in told["exits"]] == pytest.approx([one["alpha"] for one in expected], rel=1e-4)
    first = of_kind(rows, "round")[0]
    assert first["version"] == 0
    assert first["evaluation"]["accuracy"] == pytest.approx([one["accuracy"] for one in expected], abs=0.021)
    assert first["evaluation"]["accuracy"][-1] > 0.4  # a tenth by chance


def test_boards_give_moments_once_before_anything_else_and_pay_for_it(go, vit: str):
    experiment, rows = go(vit)
    (told,) = of_kind(rows, "heads")
    gave = tasks(rows, "moments")
    assert sorted(row["client"] for row in gave) == [0, 1, 2, 3]
    assert rows.index(told) < rows.index(tasks(rows, "train")[0])
    assert [one["samples"] for one in told["exits"]] == [sum(row["samples"] for row in gave)] * 2
    assert told["virtual_s"] == max(row["arrived_s"] for row in gave) == of_kind(rows, "round")[0]["virtual_s"]
    assert all(row["compute_s"] > 0 and row["energy_j"] > 0 and row["peak_memory_bytes"] > 0 for row in gave)
    length = 2 * (17 * 18 // 2 + 17 * experiment.shape.classes)
    assert {row["bytes_up"] for row in gave} == {4 * length}
    start = of_kind(rows, "round")[0]
    assert start["bytes_up"] == sum(row["bytes_up"] for row in gave)


def test_a_board_that_cannot_hold_the_trunk_gives_the_exits_that_it_reaches(go, vit: str):
    boards = (
        "{device: jetson-nano, link: wifi-poor, keep: 0.5, changes: [{at_s: 0.0001, memory_mib: 0.0415}]}, "
        "{count: 3, device: jetson-agx-orin-64, link: ethernet, keep: 1.0}"
    )
    _, rows = go(vit, AVERAGED, f"fleet={{boards: [{boards}]}}")
    (told,) = of_kind(rows, "heads")
    assert [one["clients"] for one in told["exits"]] == [4, 3]
    assert {row["client"]: row["depth"] for row in tasks(rows, "moments")} == {0: 1, 1: 2, 2: 2, 3: 2}


def test_who_is_later_than_the_deadline_gives_nothing_and_trains_on(go, vit: str):
    _, rows = go(vit, AVERAGED)
    gave = tasks(rows, "moments")
    fastest_s = min(row["arrived_s"] - row["sent_s"] for row in gave)
    _, rows = go(vit, AVERAGED, f"server.deadline_s={1.5 * fastest_s}", "server.versions=12")
    (told,) = of_kind(rows, "heads")
    late = [row for row in tasks(rows, "moments") if not row["accepted"]]
    assert 1 <= told["exits"][0]["clients"] < 4
    assert late
    assert {(row["reason"], row["detail"]) for row in late} == {("stale", "stale: the heads are fitted already")}
    trained = {row["client"] for row in tasks(rows, "train")}
    assert {row["client"] for row in late} & trained


def test_fresh_heads_are_drawn_and_cost_nothing(go, vit: str):
    experiment, rows = go(vit.replace("}", ", heads: fresh}"))
    assert not of_kind(rows, "heads") + tasks(rows, "moments")
    assert of_kind(rows, "round")[0]["virtual_s"] == pytest.approx(0.0, abs=0.1)
    assert experiment.fitted_exits == ()


def test_a_head_that_the_checkpoint_has_stays(start: Start, tmp_path: Path):
    folder = hf.saved(hf.classifier("vit", num_labels=10), tmp_path / "ten")
    experiment, _ = start(f"model={{pretrained: {folder}}}")
    assert (experiment.shape.exits, experiment.fitted_exits) == ((1, 2), (1,))


def test_rows_are_the_same_at_any_number_of_workers_and_after_a_kill(config: Path, tmp_path: Path):
    chosen = load_config(config)
    experiment = load_experiment(chosen)

    def rows_after(out: str, workers: int, *, resume: bool = False) -> bytes:
        folder = tmp_path / out
        directory = RunDirectory(folder) if resume else RunDirectory.create(folder, chosen)
        simulate(experiment, directory, workers=workers, resume=resume)
        return (folder / "rows.jsonl").read_bytes()

    whole = rows_after("whole", 1)
    assert b'"kind": "heads"' in whole
    assert rows_after("two workers", 2) == whole
    killed_run(config, tmp_path / "killed", after_rows=3 * whole.count(b"\n") // 4)
    assert rows_after("killed", 2, resume=True) == whole
    early = RunDirectory.create(tmp_path / "early", chosen)  # killed while moments came in
    first = whole[: whole.index(b'"task": "moments"')]
    early.release()
    (early.folder / "rows.jsonl").write_bytes(first[: first.rindex(b"\n") + 1])
    assert rows_after("early", 1, resume=True) == whole


def test_a_dry_run_takes_as_long(config: Path, tmp_path: Path):
    chosen = load_config(config, ["server.versions=1"])
    experiment = load_experiment(chosen)
    wet, dry = (RunDirectory.create(tmp_path / name, chosen) for name in ("wet", "dry"))
    simulate(experiment, wet, workers=1)
    simulate(experiment, dry, workers=1, dry=True)
    at_s = [of_kind(rows_of(run.folder), "heads")[0]["virtual_s"] for run in (wet, dry)]
    assert at_s[0] == at_s[1] > 0


def test_flowers_apps_carry_moments_like_other_tasks(config: Path, tmp_path: Path):
    chosen = load_config(config, [*QUICK, "server.quorum=1.0"])
    experiment = load_experiment(chosen)
    grid = AppGrid(4, {"config": str(config), "set": ""})
    directory = RunDirectory.create(tmp_path / "flower", chosen)
    serve(grid, experiment, directory, evaluate_with=in_process(Trainer({}, experiment.splits)))
    (told,) = of_kind(rows_of(directory.folder), "heads")
    assert [one["clients"] for one in told["exits"]] == [4, 4]
    assert of_kind(rows_of(directory.folder), "round")[0]["evaluation"]["accuracy"][-1] > 0.4


def test_a_method_that_draws_its_heads_refuses_fitted_ones_in_a_line(config: Path):
    fedpm = "method={name: fedpm}"
    with pytest.raises(ConfigError, match=r"heads.yaml: model.heads ridge does not go with method fedpm") as told:
        load_config(config, [fedpm, "model.heads=ridge"])
    assert str(told.value).count("\n") == 0
    assert load_experiment(load_config(config, [fedpm])).fitted_exits == ()
    with pytest.raises(ConfigError, match=r"model.heads: .*'ridge' or 'fresh', got 'lasso'"):
        load_config(config, ["model.heads=lasso"])


def test_it_is_said_before_which_heads_no_board_helps_to_fit(config: Path, tmp_path: Path):
    wide = hf.saved(hf.classifier("vit", hidden_size=64, intermediate_size=256), tmp_path / "wide")
    board = "fleet={{boards: [{{count: 4, device: jetson-nano, link: wifi, keep: {}}}]}}"
    shares = ("assignment={rule: memory_share}", "method={name: co-s2p, units: random}")

    def said(keep: float) -> str:
        model = f"model={{pretrained: {wide}}}"
        return caution(load_experiment(load_config(config, [model, board.format(keep), *shares])))

    assert said(1.0) == ""
    assert "fitted by nobody: the head after block 2, as no board's memory holds the whole trunk" in said(0.3)
