"""A run's final model answers over HTTP, with torch and numpy alone, as the run itself judged it."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finished_runs import facts_of, finished_run
from node import ROOT
from PIL import Image
from small_models import SMALL, random_state

from cosp.config import checked
from cosp.errors import UserError
from cosp.experiment import Experiment, load_experiment
from cosp.predict.answers import answers
from cosp.predict.inputs import read_inputs
from cosp.predict.opened import open_model
from cosp.run.directory import RunDirectory
from cosp.simulation.simulate import simulate
from cosp.trainer.answering import Answering
from cosp.trainer.finished import read_finished

TINY: dict[str, Any] = {
    "name": "tiny",
    "data": {"name": "digits", "train": 200, "validation": 50, "test": 100, "partition": {"kind": "iid"}},
    "fleet": {"boards": [{"count": 2, "device": "jetson-nano", "link": "wifi", "keep": 0.5},
                         {"device": "jetson-agx-orin-64", "link": "ethernet", "keep": 1.0}]},
    "model": {"patch": 4, "dim": 16, "blocks": 2, "heads": 2, "hidden": 16, "exits": [1, 2]},
    "method": {"name": "co-s2p"},
    "training": {"epochs": 1, "batch_size": 16},
    "server": {"versions": 3, "quorum": 0.5},
}  # fmt: skip
ABSENT = ("flwr", "pydantic", "safetensors", "typer", "sklearn", "rich", "yaml", "psutil", "httpx")
WITHOUT = f"import runpy, sys; sys.modules.update(dict.fromkeys({ABSENT})); "


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    return load_experiment(checked(TINY, "tiny.yaml"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, experiment: Experiment) -> Path:
    """The directory of a run that has ended."""
    directory = RunDirectory.create(tmp_path_factory.mktemp("runs") / "run", experiment.config)
    simulate(experiment, directory, workers=1)
    return directory.folder


@contextmanager
def served(model: Path, *words: str) -> Iterator[str]:
    """``python -m cosp.trainer serve`` without what a board has not; yield its address."""
    told = json.dumps(["serve", str(model), "--port", "0", "--threads", "1", *words])
    code = f"{WITHOUT}sys.argv[1:] = {told}; runpy.run_module('cosp.trainer', run_name='__main__')"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
        process.stdout.close()


def post(address: str, body: bytes) -> dict[str, Any]:
    with urllib.request.urlopen(urllib.request.Request(address, body), timeout=60) as reply:
        return dict(json.load(reply))


def npy(x: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, x)
    return file.getvalue()


def raw_test(experiment: Experiment) -> np.ndarray:
    """The test images in the source's units and order of axes, whole numbers from 0 to 16."""
    found = experiment.dataset
    x = np.asarray(found.test.x) * np.reshape(found.std, (-1, 1, 1)) + np.reshape(found.mean, (-1, 1, 1))
    return x.round().astype(np.uint8).transpose(0, 2, 3, 1)


@pytest.mark.integration
def test_the_served_model_is_as_good_as_the_run_says_at_each_exit(run: Path, experiment: Experiment):
    known = json.loads((run / "metrics.json").read_text())["final"]["global"]["accuracy"]
    body, y = npy(raw_test(experiment)), experiment.dataset.test.y
    names = experiment.dataset.classes
    for place, after in enumerate((1, 2)):
        with served(run / "model", "--exit", str(after)) as address:
            found = post(address, body)
        right = [names.index(one["class"]) == label for one, label in zip(found["answers"], y, strict=True)]
        assert sum(right) / len(right) == pytest.approx(known[place], abs=1e-12)
        assert {one["exit"] for one in found["answers"]} == {after}
        assert found["ms"] >= sum(one["ms"] for one in found["answers"]) > 0
        assert "watts" in found


@pytest.mark.integration
def test_it_answers_what_cosp_predict_answers_leaving_early_where_it_is_sure(
    run: Path, experiment: Experiment, tmp_path: Path
):
    x = np.asarray(experiment.dataset.test.x)
    model = open_model(run)
    sure = float(np.median(answers(model, x, after=1).probabilities.max(-1)))  # so that half of them leave there
    wanted = answers(model, x, after=2, confident=sure)
    assert set(wanted.exits) == {1, 2}
    Image.fromarray(raw_test(experiment)[0, :, :, 0] * 15).resize((40, 40)).save(tmp_path / "a.png")
    picture = answers(model, read_inputs(model, [str(tmp_path / "a.png")]).x, after=2, confident=sure)
    with served(run, "--exit", "2", "--confident", repr(sure)) as address:
        found = post(address, npy(raw_test(experiment)))["answers"]
        (seen,) = post(address, (tmp_path / "a.png").read_bytes())["answers"]
        (one,) = post(address, npy(raw_test(experiment)[0]))["answers"]
        with urllib.request.urlopen(address, timeout=60) as reply:
            about = json.load(reply)
        for body, why in ((b"no picture", "cannot be read as an image"), (npy(np.zeros((1, 9, 9, 1))), "samples are")):
            with pytest.raises(urllib.error.HTTPError) as refused:
                post(address, body)
            assert refused.value.code == 400
            assert why in json.load(refused.value)["error"]
    assert [answer["exit"] for answer in found] == wanted.exits.tolist()
    assert [answer["probability"] for answer in found] == pytest.approx([p for _, p in wanted.best()], rel=1e-4)
    assert {**one, "ms": 0} == {**found[0], "ms": 0}
    assert (seen["probability"], seen["exit"]) == (pytest.approx(picture.best()[0][1], rel=1e-4), picture.exits[0])
    assert (about["exits"], about["exit"], about["confident"]) == ([1, 2], 2, sure)


@pytest.mark.integration
def test_a_board_s_own_submodel_is_smaller_and_answers_alike(run: Path, experiment: Experiment):
    whole, own = read_finished(run), read_finished(run, board=0)
    assert sum(map(len, map(np.ravel, own.module.parameters()))) < sum(
        map(len, map(np.ravel, whole.module.parameters()))
    )
    assert Answering(own).arrays(raw_test(experiment)[:3])[0]["exit"] == own.chosen


def test_an_exit_that_is_not_there_and_a_folder_without_a_model_are_one_line(tmp_path: Path):
    folder = finished_run(tmp_path / "run", facts_of(SMALL), random_state(SMALL))
    with pytest.raises(UserError, match="--exit 9: there is no exit behind block 9; exits stand behind blocks 1, 2, 3"):
        Answering(read_finished(folder), last=9)
    with pytest.raises(UserError, match=r"--confident 2: must lie in \(0, 1\]"):
        Answering(read_finished(folder), confident=2)
    with pytest.raises(UserError, match="--board 5: has no submodel in .*; those that have: 0"):
        read_finished(folder, board=5)
    with pytest.raises(UserError, match="holds no model of a run; copy RUN/model here"):
        read_finished(tmp_path)
    (folder / "model" / "model.safetensors").write_bytes(b"x" * 20)
    with pytest.raises(UserError, match="cannot be read as a model of this cosp"):
        read_finished(folder)
