"""Folders and files whose names are no UTF-8, as archives made elsewhere leave them: trained, reported, stored."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from cosp.config import load_config
from cosp.deployment.store import write_shares
from cosp.experiment import load_experiment
from cosp.report import write_report
from cosp.run.directory import RunDirectory, config_of
from cosp.simulation.simulate import simulate
from cosp.trainer.store import open_board_store

CONFIG = {
    "name": "tiny",
    "data": {"partition": {"kind": "iid", "pseudo_clients": False, "min_samples": 2}},
    "fleet": "equal4",
    "model": {"patch": 4, "dim": 16, "blocks": 2, "heads": 2, "hidden": 32, "exits": [1, 2]},
    "method": {"name": "co-s2p"},
    "training": {"epochs": 1, "batch_size": 16},
    "server": {"versions": 1},
}
SHOWN = ("caf\ufffd", "the")


@pytest.mark.parametrize("stream", [False, True])
def test_names_that_are_no_utf8_train_report_and_store(tmp_path: Path, stream: bool):
    folder = tmp_path / os.fsdecode(b"lat\xe9")
    for colour, name in ((20, b"caf\xe9"), (90, b"the")):
        place = folder / os.fsdecode(name)
        place.mkdir(parents=True)
        for number in range(30):
            path = place / os.fsdecode(b"\xe9%d.png" % number)
            Image.fromarray(np.full((8, 8), colour + number, np.uint8)).save(path)
    config = CONFIG | {"data": CONFIG["data"] | {"name": str(folder), "stream": stream}}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    experiment = load_experiment(load_config(tmp_path / "tiny.yaml"))
    simulate(experiment, RunDirectory.create(tmp_path / "run", experiment.config), workers=1)
    header = json.loads((tmp_path / "run" / "rows.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert tuple(header["classes"]) == SHOWN
    report = write_report([tmp_path / "run"], tmp_path / "run" / "report.html")
    assert SHOWN[0] in report.read_text(encoding="utf-8")
    stores = write_shares(experiment, tmp_path / "stores")
    assert {open_board_store(store).recipe.classes for store in stores} == {SHOWN}
    assert load_config(config_of(tmp_path / "run")).data == experiment.config.data
