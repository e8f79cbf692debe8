"""Clients as the data name them, from the file to the boards that hold theirs."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import numpy as np
import pytest
import yaml
from PIL import Image

from cosp.config import load_config
from cosp.data.sources import read_source
from cosp.deployment.store import own_source, write_own, write_shares
from cosp.errors import ConfigError, DataError
from cosp.experiment import Experiment, load_experiment
from cosp.planning.plan import plan_rows
from cosp.planning.table import plan_table
from cosp.run.directory import RunDirectory
from cosp.simulation.simulate import simulate
from cosp.trainer.store import open_board_store

CONFIG = {
    "name": "tiny",
    "data": {"local_test": 0.25, "partition": {"kind": "column"}},
    "fleet": "equal4",
    "model": {"patch": 4, "dim": 16, "blocks": 2, "heads": 2, "hidden": 32, "exits": [1, 2]},
    "method": {"name": "co-s2p"},
    "training": {"epochs": 1, "batch_size": 16},
    "server": {"versions": 1},
}
WHO = np.array(["eve", "bob", "ann", "dan"])[np.arange(200) % 4]
X = np.random.default_rng(0).integers(0, 9, (200, 8, 8)).astype(np.uint8) + 20 * (np.arange(200) % 4)[:, None, None]
X = X.astype(np.uint8)  # whose an image is can be seen in it
Y = np.arange(200) // 4 % 2


def experiment(folder: Path, *overrides: str) -> Experiment:
    (folder / "tiny.yaml").write_text(yaml.safe_dump(CONFIG), encoding="utf-8")
    return load_experiment(load_config(folder / "tiny.yaml", overrides))


def write_npz(folder: Path) -> str:
    np.savez(folder / "said.npz", x=X, y=Y, client=WHO, site=WHO)
    return str(folder / "said.npz")


def write_images(folder: Path) -> str:
    for row in range(200):
        place = folder / "said" / "train" / WHO[row] / f"class{Y[row]}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(X[row]).save(place / f"{row}.png")
    return str(folder / "said")


def save_set(folder: Path) -> str:
    datasets.disable_progress_bars()
    features = {"seen": datasets.Image(), "what": datasets.Value("int64"), "client": datasets.Value("string")}
    rows = {"seen": [Image.fromarray(x) for x in X], "what": Y.tolist(), "client": WHO.tolist()}
    found = datasets.Dataset.from_dict(rows, features=datasets.Features(features))
    found.save_to_disk(folder / "said")
    with pytest.raises(DataError, match="choose one by data.label: client or what"):
        read_source(str(folder / "said"), data_dir=None, image_size=None)
    datasets.enable_progress_bars()
    return str(folder / "said")


@pytest.mark.parametrize("write", [write_npz, write_images, save_set])
def test_each_board_holds_its_client_s_samples(write, tmp_path: Path):
    found = experiment(tmp_path, f"data.name={write(tmp_path)}")
    assert [row["data_of"] for row in plan_rows(found)] == [["ann"], ["bob"], ["dan"], ["eve"]]
    for rows, seen in zip(found.rows, (2, 1, 3, 0), strict=True):
        x = np.asarray(found.dataset.train.x[np.concatenate(rows)]) * found.dataset.std[0] + found.dataset.mean[0]
        assert {int(image.mean()) // 20 for image in x} == {seen}
    assert found.notes[-1].endswith(
        "kind column: 4 clients, ann to eve, dealt in this order to 4 boards in the fleet's"
    )


def test_clients_of_a_file_are_simulated_planned_and_stored(tmp_path: Path):
    name = write_npz(tmp_path)
    found = experiment(tmp_path, f"data.name={name}", "data.partition.column=site")
    simulate(found, RunDirectory.create(tmp_path / "run", found.config), workers=0)
    header = json.loads((tmp_path / "run" / "rows.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert header["kind"] == "run"
    cells = [str(cell) for cell in plan_table(plan_rows(found), "plan").columns[1].cells]
    assert [cell.splitlines()[-1] for cell in cells] == ["of ann", "of bob", "of dan", "of eve"]
    stores = [open_board_store(folder).samples for folder in write_shares(found, tmp_path / "stores")]
    assert [len(store.train.y) + len(store.test.y) for store in stores] == [len(a) + len(b) for a, b in found.rows]
    write_own(found, own_source(found, name, None), tmp_path / "own")  # a board's own data are of one client: its own


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["data.name=digits"], "data.partition.kind column does not go with digits, which has no such columns"),
        (
            ["data.partition.column=speaker"],
            "array 'speaker' is missing, found .*data.partition.column names",
        ),
        (["data.partition.kind=iid", "data.partition.column=site"], "column goes with kind: column, got kind iid"),
        (["fleet=paper16"], "the training data are of 4 clients, the fleet has 16 boards"),
        (["data.label=y"], "data.label = y does not go with said, which has no such columns; leave it out"),
        (["data.image_size=4"], "data.image_size: resizes images that come as files, said has arrays"),
    ],
)
def test_what_does_not_go_together_is_one_line(tmp_path: Path, overrides: list[str], said: str):
    name = write_npz(tmp_path)
    with pytest.raises((ConfigError, DataError), match=said) as caught:
        experiment(tmp_path, f"data.name={name}", *overrides)
    assert "\n" not in str(caught.value)


def test_advice_on_size_is_what_the_reader_can_follow(tmp_path: Path):
    np.savez(tmp_path / "wide.npz", x=np.zeros((200, 128, 9)), y=Y)
    with pytest.raises(ConfigError, match=r"128 x 9; they must be square: pad or resize the arrays to \(N, H, H"):
        experiment(tmp_path, f"data.name={tmp_path / 'wide.npz'}", "data.partition.kind=iid")
    for row in range(80):
        place = tmp_path / "files" / f"class{Y[row]}"
        place.mkdir(parents=True, exist_ok=True)
        Image.new("L", (9, 12)).save(place / f"{row}.png")
    with pytest.raises(ConfigError, match="12 x 9; they must be square: set data.image_size"):
        experiment(tmp_path, f"data.name={tmp_path / 'files'}", "data.partition.kind=iid")
