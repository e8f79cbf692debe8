"""Whole streams of four boards: the laws that the loop keeps."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_stream import opened
from tiny_runs import rows_of

from cosp.adaptation.download import WAYS
from cosp.models.transformer import Transformer
from cosp.run.directory import RunDirectory
from cosp.stream import adapting, loop
from cosp.stream.learner import SchoolLearner
from cosp.stream.samples import lay_out
from cosp.stream.simulate import simulate
from cosp.submodel.slicing import State, extract

Go = Callable[..., tuple[list[dict[str, Any]], dict[str, Any]]]


@pytest.fixture
def go(tmp_path: Path, run: Path) -> Go:
    """Return a function that runs a stream and returns its rows and metrics."""

    def made(*sets: str, workers: int = 0, out: str = "out", **changes: Any) -> tuple[list[dict[str, Any]], Any]:
        config, deployed = opened(tmp_path, run, *sets, **changes)
        directory = RunDirectory.create(tmp_path / out, config)
        metrics = simulate(config, deployed, directory, workers=workers, data_dir=None)
        return rows_of(directory.folder), metrics

    return made


def of(rows: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [row for row in rows if row["kind"] == kind]


def test_what_boards_answer_is_what_their_models_say(go: Go, tmp_path: Path, run: Path) -> None:
    config, deployed = opened(tmp_path, run, "upload.rule=none")
    rows, metrics = go("upload.rule=none")
    stream = lay_out(config, deployed, [0, 1, 2, 3], data_dir=None)
    for client, plan in deployed.plans.items():
        module = Transformer(deployed.facts.shape, plan)
        module.load_state_dict(extract(deployed.state, deployed.layout, plan))
        first, count = stream.firsts[client], len(stream.comes[client])
        part = slice(first, first + count)
        with torch.no_grad():
            logits = module(torch.from_numpy(stream.samples.x[part]))[deployed.exit_of(plan)]
        right = int((logits.argmax(-1).numpy() == stream.samples.y[part]).sum())
        own = [row for row in of(rows, "window") if row["client"] == client]
        assert (sum(row["samples"] for row in own), sum(row["right"] for row in own)) == (count, right)
    assert metrics["clean_accuracy"]["before"] == metrics["clean_accuracy"]["after"]
    assert metrics["uploaded"] == metrics["sets"] == metrics["bytes_down"] == 0


def test_samples_are_the_run_s_and_corrupted_in_their_time_alone(tmp_path: Path, run: Path) -> None:
    config, deployed = opened(tmp_path, run)
    stream = lay_out(config, deployed, [0, 1, 2, 3], data_dir=None)
    test = deployed.experiment.splits["test"]
    for client, coming in stream.comes.items():
        first = stream.firsts[client]
        same = (stream.samples.x[first : first + len(coming)] == test.x[coming.rows]).all(axis=(1, 2, 3))
        meant = (coming.times_s < 20) | (coming.times_s >= 40)
        assert same[meant].all()
        assert not same[~meant].any()
        assert (stream.samples.y[first : first + len(coming)] == test.y[coming.rows]).all()


def test_rows_are_the_same_bytes_at_any_number_of_workers(go: Go, tmp_path: Path) -> None:
    for workers in (0, 1, 3):
        go("upload.rule=all", "stream.until_s=30", workers=workers, out=f"by-{workers}")
    written = [(tmp_path / f"by-{workers}" / "rows.jsonl").read_bytes() for workers in (0, 1, 3)]
    assert written[0] == written[1] == written[2]
    assert b'"download"' in written[0]
    assert b"wall" not in written[0]


def test_bytes_in_rows_are_those_of_the_messages(go: Go, monkeypatch: pytest.MonkeyPatch) -> None:
    up: list[int] = []
    down: list[int] = []
    to_bytes, received = loop.upward.to_bytes, loop.received

    def sending(report: Any) -> bytes:
        up.append(len(to_bytes(report)))
        return to_bytes(report)

    def taking(message: bytes, *rest: Any) -> Any:
        down.append(len(message))
        return received(message, *rest)

    monkeypatch.setattr(loop.upward, "to_bytes", sending)
    monkeypatch.setattr(loop, "received", taking)
    rows, metrics = go()
    assert sorted(row["bytes_up"] for row in of(rows, "window")) == sorted(up)
    assert [row["bytes_down"] for row in of(rows, "download")] == down
    assert (metrics["bytes_up"], metrics["bytes_down"]) == (sum(up), sum(down))
    assert down


def test_a_bad_set_goes_back(go: Go, monkeypatch: pytest.MonkeyPatch) -> None:
    class Spoiling(SchoolLearner):
        """Sends, once, a model that knows nothing: all classes are alike to it."""

        spoiled = False

        def take(self, *_: Any) -> list[dict[str, Any]]:
            return []

        def model(self) -> State | None:
            if self.spoiled:
                return None
            self.spoiled = True
            return {name: torch.zeros_like(one) for name, one in self._first.items()}

    monkeypatch.setattr(adapting, "SchoolLearner", Spoiling)
    rows, metrics = go(
        trial={"windows": 1, "margin": 0.001},
        download={"how": "whole"},
        stream={"until_s": 60, "window_s": 10, "per_s": 1.0},
    )
    (first, *_) = of(rows, "rollback")
    assert first["to"] == 0
    assert metrics["rollbacks"] >= 1
    returned = [row for row in of(rows, "download") if row["version"] == 0]
    assert returned
    assert all(row["virtual_s"] > first["virtual_s"] for row in returned)


def test_who_went_off_while_a_set_came_is_sent_the_whole(go: Go) -> None:
    boards = [{"count": 4, "device": "jetson-nano", "link": "wifi-poor", "dropout": 0.5}]
    rows, metrics = go(fleet={"boards": boards})
    lost = {(row["client"], row["virtual_s"]) for row in of(rows, "download") if row["lost"]}
    assert lost
    assert metrics["lost"] >= len(lost)
    for client, at_s in lost:
        following = [row for row in of(rows, "download") if row["client"] == client and row["virtual_s"] > at_s]
        assert all(row["base"] is None and row["way"] == "whole" for row in following[:1])
    kept = [row for row in of(rows, "download") if row["base"] is not None]
    assert {row["way"] for row in kept} <= set(WAYS)


def test_a_board_that_is_off_answers_nothing(go: Go, tmp_path: Path) -> None:
    (tmp_path / "trace.csv").write_text(
        "client,start_s,end_s\n" + "".join(f"{client},{0 if client else 30},1000\n" for client in range(4))
    )
    board = {"count": 4, "device": "jetson-nano", "link": "wifi",
             "availability": {"trace": {"path": str(tmp_path / "trace.csv")}}}  # fmt: skip
    rows, _ = go("upload.rule=none", fleet={"boards": [board]})
    own = [row for row in of(rows, "window") if row["client"] == 0]
    assert own[0]["missed"] > 0
    assert own[0]["to_s"] > 30
    assert all(row["missed"] == 0 for row in of(rows, "window") if row["client"])


def test_lists_of_boards_have_sets_of_their_own(go: Go) -> None:
    rows, _ = go("upload.rule=all", sets=[[0, 3], [1, 2]], trial=None)
    group_of = {row["version"]: row["group"] for row in of(rows, "set")}
    assert set(group_of.values()) == {0, 1}
    taken = {(row["client"], group_of[row["version"]]) for row in of(rows, "download")}
    assert taken <= {(0, 0), (3, 0), (1, 1), (2, 1)}


def test_tokens_from_behind_all_that_a_shallow_board_has_teach_the_others(go: Go) -> None:
    rows, metrics = go(upload={"rule": "random", "samples": 4, "tokens": {"how": "norm", "rho": 0.25, "after": 1}})
    assert of(rows, "step")  # clients 0 and 1 hold one block alone
    assert metrics["sets"] > 0


def test_metrics_are_written_and_rows_say_who_serves(go: Go, tmp_path: Path) -> None:
    rows, metrics = go()
    assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == metrics
    assert [row["kind"] for row in rows[:5]] == ["stream", *["client"] * 4]
    assert metrics["samples"] == sum(row["samples"] for row in of(rows, "window"))
    assert np.isclose(sum(row["energy_j"] for row in rows if "energy_j" in row), metrics["energy_j"])
    assert isinstance(RunDirectory(tmp_path / "out").rows_bytes(), int)
