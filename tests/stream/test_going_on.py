"""A stream that was killed goes on to the same bytes."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from small_stream import opened, written

from cosp.checkpoints.own import read_state
from cosp.errors import UserError
from cosp.run.directory import RunDirectory
from cosp.stream import checkpoint
from cosp.stream.deployed import open_deployed
from cosp.stream.settings import load_adapt
from cosp.stream.simulate import simulate

Go = Callable[..., Path]
POOR = {"count": 4, "device": "jetson-nano", "link": "wifi-poor", "dropout": 0.3}
TRACE = "client,start_s,end_s\n0,0,20\n0,30,1000\n1,0,1000\n2,5,33\n3,0,1000\n"
STREAMS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "canaries": {"upload": {"rule": "all"}, "trial": {"windows": 1, "canaries": 2, "margin": 0.0}},
    "lossy": {"upload": {"rule": "all"}, "fleet": {"boards": [POOR]}, "trial": None, "download": {"share": 0.5}},
    "one link for all": {
        "upload": {"rule": "all"}, "trial": None, "download": {"how": "whole"},
        "fleet": {"boards": [{**POOR, "dropout": 0.0}], "server": {"send_mbit_s": 0.02, "receive_mbit_s": 0.02}},
    },
    "memories": {"upload": {"rule": "entropy_band", "moving": 1.0, "warm_samples": 8, "redundant": 0.999,
                            "fill": True, "samples": 5},
                 "adapt": {"batch": 4, "replay_from": 8, "replay": 20, "parts": ["all"], "class_cap": 2.0}},
    "an oracle": {"adapt": {"batch": 4, "rule": "labels", "parts": ["heads"]}, "sets": [[0, 3], [1, 2]]},
    "clusters": {
        "upload": {"rule": "all"}, "trial": {"windows": 1, "margin": 0.01}, "adapt": {"batch": 4},
        "sets": "drift", "clusters": {"windows": 2, "apart": 4.0},
        "stream": {"until_s": 80, "window_s": 10, "per_s": 1.0, "boards": [
            {"clients": [1, 3], "drift": [{"at_s": 10, "corruption": "contrast", "severity": 5}]}]},
    },
    "tokens": {"upload": {"rule": "random", "samples": 4, "tokens": {"how": "norm", "rho": 0.25, "after": 1}}},
}  # fmt: skip


class Killed(Exception):
    """Stands for a process that ends without a word."""


@pytest.fixture
def go(tmp_path: Path, run: Path) -> Go:
    """Return a function that runs a stream, or kills it at its row ``dies_at``, or goes on with it."""

    def made(out: str, *sets: str, dies_at: int | None = None, resume: bool = False, **changes: Any) -> Path:
        config, deployed = opened(tmp_path, run, *sets, **changes)
        seen = 0

        def on_row(row: dict[str, Any]) -> None:
            nonlocal seen
            seen += 1
            if seen == dies_at:
                raise Killed

        folder = tmp_path / out
        directory = RunDirectory.reopen(folder) if resume else RunDirectory.create(folder, config)
        saved = checkpoint.load(directory.checkpoints) if resume else None
        simulate(config, deployed, directory, workers=0, data_dir=None, on_row=on_row, saved=saved)
        return folder

    return made


def rows(folder: Path) -> bytes:
    return (folder / "rows.jsonl").read_bytes()


def figures(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "metrics.json").read_text())
    return {name: value for name, value in found.items() if not name.startswith("wall")}


@pytest.mark.parametrize("name", STREAMS)
def test_wherever_it_was_killed_it_goes_on_to_the_same_bytes(name: str, go: Go, tmp_path: Path) -> None:
    changes = dict(STREAMS[name])
    if name == "lossy":
        (tmp_path / "trace.csv").write_text(TRACE)
        trace = {"trace": {"path": str(tmp_path / "trace.csv")}}
        changes["fleet"] = {"boards": [{**POOR, "availability": trace}]}
    whole = go("whole", **changes)
    count = len(rows(whole).splitlines())
    rng = random.Random(name)
    assert b'"download"' in rows(whole)
    assert (name == "clusters") == (b'"clusters"' in rows(whole))
    for out in ("killed", "killed-twice"):
        with pytest.raises(Killed):
            go(out, dies_at=rng.randrange(1, count), **changes)
        if out == "killed-twice":
            with pytest.raises(Killed):
                go(out, dies_at=count, resume=True, **changes)  # at its very last row
        folder = go(out, resume=True, **changes)
        assert rows(folder) == rows(whole)
        assert figures(folder) == figures(whole)
    models = sorted(path.parent.name for path in whole.glob("*/cosp.json"))
    for model in models:
        first, second = read_state(whole / model), read_state(folder / model)
        assert all(torch.equal(first[key], second[key]) for key in first)
    assert models


def test_checkpoints_that_are_seldom_cost_no_byte_and_leave_no_array_behind(go: Go) -> None:
    whole = go("whole", "checkpoint_every=2")
    count = len(rows(whole).splitlines())
    with pytest.raises(Killed):
        go("killed", "checkpoint_every=2", dies_at=count - 2)
    folder = go("killed", "checkpoint_every=2", resume=True)
    assert rows(folder) == rows(whole)
    (state,) = (folder / "checkpoint").glob("state-*.json")
    named = state.read_text()
    assert state.name == "state-000004.json"
    assert all(path.stem in named for path in (folder / "checkpoint" / "arrays").iterdir())


def test_what_no_longer_goes_together_is_one_line(go: Go, tmp_path: Path, run: Path) -> None:
    with pytest.raises(Killed):
        go("out", dies_at=20)
    with pytest.raises(UserError, match=r"upload\.samples was 4 when the stream began and is 3 now"):
        go("out", "upload.samples=3", resume=True)
    (path,) = (tmp_path / "out" / "checkpoint").glob("state-*.json")
    text = path.read_text()
    path.write_text(json.dumps({**json.loads(text), "model": 1}))
    with pytest.raises(UserError, match="holds another model than when the stream began"):
        go("out", resume=True)
    path.write_text(text.replace('"answering"', '"answered"'))
    with pytest.raises(UserError, match="the checkpoint makes no sense"):
        go("out", resume=True)
    path.write_text(text[:100])
    with pytest.raises(UserError, match="the checkpoint cannot be read"):
        go("out", resume=True)


def test_a_command_that_was_killed_goes_on_with_resume(tmp_path: Path, run: Path) -> None:
    config = written(tmp_path, run, upload={"rule": "all"}, trial={"windows": 1, "margin": 0.01})
    config.write_text(yaml.safe_dump({**yaml.safe_load(config.read_text()), "adapt": {"batch": 4}}))
    cosp = [sys.executable, "-m", "cosp.cli", "adapt"]
    rest = ["--workers", "0", "--no-report"]
    whole, out = tmp_path / "whole", tmp_path / "out"
    subprocess.run([*cosp, str(config), "--out", str(whole), *rest], check=True, capture_output=True)
    process = subprocess.Popen([*cosp, str(config), "--out", str(out), *rest], stderr=subprocess.DEVNULL)
    while process.poll() is None and not list((out / "checkpoint").glob("state-*2.json")):
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert rows(out) != rows(whole)
    done = subprocess.run([*cosp, "--resume", str(out), *rest], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert rows(out) == rows(whole)
    again = subprocess.run([*cosp, str(config), "--out", str(out), *rest], capture_output=True, text=True)
    assert (again.returncode, "--resume" in again.stderr) == (2, True)
    both = subprocess.run([*cosp, str(config), "--resume", str(out)], capture_output=True, text=True)
    assert (both.returncode, "give either CONFIG or --resume DIR, got both" in both.stderr) == (2, True)
    assert load_adapt(out / "config.yaml").label == "small"
    assert open_deployed(out, data_dir=None).facts.adapted is not None
