"""Two real boards over TLS serve what they meet after deployment: samples go up, the server adapts, changes come down.

One trainer is killed and comes back having forgotten what it had: it is sent the whole, and goes on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from deployment import CONFIG, Deployment, Row, until

from cosp.config import load_config
from cosp.experiment import load_experiment

pytestmark = pytest.mark.deploy
BOARDS = 2
SMALL: dict[str, Any] = {
    **CONFIG,
    "data": {"name": "digits", "train": 300, "validation": 50, "test": 200, "partition": {"kind": "iid"}},
    "fleet": {"boards": [{"count": BOARDS, "device": "jetson-orin-nano-8", "link": "ethernet", "keep": 0.5}]},
    "model": {"patch": 4, "dim": 32, "blocks": 2, "heads": 2, "hidden": 64, "exits": [1, 2]},
    "server": {"versions": 4, "quorum": 1.0},
}
STREAM: dict[str, Any] = {
    "name": "adapted",
    "model": {"pretrained": "trained"},
    "stream": {"until_s": 3600, "window_s": 3, "per_s": 4},
    "upload": {"rule": "random", "samples": 4},
    "adapt": {"parts": ["all"], "batch": 8},
    "download": {"how": "dwc", "share": 0.05},
    "trial": None,
}


def write_stream(folder: Path, board: int) -> None:
    """Write what a board meets: test images at half of their light, in the units of files, without labels."""
    experiment = load_experiment(load_config(folder / "experiment.yaml"))
    test, dataset = experiment.splits["test"], experiment.dataset
    mean, std = (np.reshape(values, (-1, 1, 1)) for values in (dataset.mean, dataset.std))
    raw = (np.asarray(test.x[board::BOARDS]) * std + mean).transpose(0, 2, 3, 1)
    np.savez(folder / f"stream-{board}.npz", x=np.tile(raw / 2, (50, 1, 1, 1)))


@pytest.fixture(scope="module")
def boards(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Boards with streams at a server that has a trained model."""
    folder = tmp_path_factory.mktemp("adapting")
    with Deployment(folder, SMALL) as deployment:
        deployment.make_keys(BOARDS)
        deployment.cosp("run", str(deployment.config), "--out", "trained", "--workers", "1", "--no-report")
        deployment.cosp("store", str(deployment.config), "--out", "stores")
        (folder / "stream.yaml").write_text(yaml.safe_dump(STREAM), encoding="utf-8")
        deployment.start_server()
        for board in range(BOARDS):
            write_stream(folder, board)
            deployment.start_trainer(board, "--stream", f"stream-{board}.npz")
            deployment.start_client(board)
        yield deployment


def found(boards: Deployment, out: str, kind: str, client: int | None = None, **wanted: Any) -> list[Row]:
    return [
        row for row in boards.rows(out)
        if row["kind"] == kind and client in (None, row.get("client"))
        and all(row[name] == value for name, value in wanted.items())
    ]  # fmt: skip


def test_samples_go_up_changes_come_down_and_who_forgot_what_it_had_is_sent_the_whole(boards: Deployment) -> None:
    boards.start("adapt", "server", "adapt", "stream.yaml", "--out", "adapted")
    for board in range(BOARDS):
        until(lambda: found(boards, "adapted", "download", board, way="dwc", lost=None), "a change has come down")  # noqa: B023
    rows = boards.rows("adapted")
    assert [row["kind"] for row in rows[:1]] == ["stream"]
    for board in range(BOARDS):
        first = found(boards, "adapted", "download", board)[0]
        assert (first["way"], first["base"], first["version"], first["lost"]) == ("whole", None, 0, None)
        change = found(boards, "adapted", "download", board, way="dwc")[0]
        assert change["bytes_down"] <= 0.05 * first["bytes_down"]
        windows = found(boards, "adapted", "window", board)
        assert windows[0]["samples"] == 12
        assert {row["chosen"] for row in windows} == {4}
        assert all(row["bytes_up"] < 4 * 70 + 40 for row in windows)  # pixels of 8 bits and a report
    steps = [row for row in rows if row["kind"] == "step"]
    assert [row["samples"] for row in steps] == [8] * len(steps)

    boards.kill("trainer-1")
    before = len(boards.rows("adapted"))
    boards.start_trainer(1, "--stream", "stream-1.npz")

    def after(kind: str, **wanted: Any) -> list[Row]:
        rows = boards.rows("adapted")[before:]
        return [row for row in rows if row["kind"] == kind and row["client"] == 1 and wanted.items() <= row.items()]

    until(lambda: after("download", base=None, way="whole", lost=None), "the whole has come down")
    whole = after("download", base=None, way="whole", lost=None)[0]
    until(lambda: [row for row in after("window") if row["version"] >= whole["version"]], "the board has gone on")
    lost = [row["lost"] for row in after("download") if row["virtual_s"] < whole["virtual_s"]]
    failed = [row["reason"] for row in after("failed")]
    assert "unknown-base" in lost or failed  # a change came, or the kill took one with it
    served = [row["samples"] for row in found(boards, "adapted", "window", 1)]
    assert set(served) == {12}

    assert "serves the stream stream-1.npz: samples of it leave this board" in boards.log("trainer-1")
    assert "Samples leave the boards: by upload.rule random" in " ".join(boards.log("adapt").split())
    assert "a stream begins anew each time" in boards.cosp("server", "stop").stdout
    assert boards.processes["adapt"].wait(120) == 1
    assert "finished:stopped" in boards.log("adapt")


def test_a_stream_ends_with_its_figures_and_a_page(boards: Deployment) -> None:
    done = boards.cosp("server", "adapt", "stream.yaml", "--out", "short", "--set", "stream.until_s=9")
    assert "samples, sent to the server" in done.stdout
    metrics = json.loads((boards.folder / "short" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["samples"] == sum(row["samples"] for row in found(boards, "short", "window")) > 0
    assert metrics["stream_accuracy"] is None  # nobody labelled what the boards met
    assert metrics["clean_accuracy"]["before"] > 0.5
    assert (boards.folder / "short" / "report.html").stat().st_size > 10_000
    again = boards.cosp("server", "adapt", "stream.yaml", "--out", "short", check=False)
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)
    assert "a stream begins anew each time; give another --out" in again.stderr
