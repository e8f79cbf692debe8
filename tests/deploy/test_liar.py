"""Four real boards over TLS of which one lies: the others' run ends well, and the liar is named, bounded and banned."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from deployment import CONFIG, Deployment

pytestmark = pytest.mark.deploy
BOARDS, LIAR = 4, 2
RUN_S = 900.0
VERSIONS = 7


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    config = {**CONFIG, "server": {"versions": VERSIONS, "quorum": 0.75, "checkpoint_every": 1}}
    with Deployment(tmp_path_factory.mktemp("liar"), config) as deployment:
        deployment.make_keys(BOARDS)
        deployment.cosp("store", str(deployment.config), "--out", "stores")
        deployment.start_server()
        for board in range(BOARDS):
            if board == LIAR:
                words = ("--data", f"stores/{board}", "--socket", f"trainer-{board}.sock", "--threads", "1")
                script = Path(__file__).with_name("lying_trainer.py")
                deployment.start(f"trainer-{board}", *words, python=(sys.executable, str(script)))
            else:
                deployment.start_trainer(board)
            deployment.start_client(board)
        deployment.start_run()
        deployment.wait_for_run(RUN_S)
        yield deployment


def test_the_others_learn(finished: Deployment) -> None:
    metrics = json.loads((finished.folder / "run" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["rounds"] == VERSIONS
    assert metrics["final"]["global"]["accuracy"][-1] > 0.93
    trained = {row["client"] for row in finished.arrivals() if row["task"] == "train"}
    assert trained >= set(range(BOARDS)) - {LIAR}


def test_what_was_too_large_was_bounded(finished: Deployment) -> None:
    rows = [row for row in finished.arrivals() if row["client"] == LIAR and row["task"] == "train"]
    (first,) = rows  # all later ones claim too much
    assert first["clipped"] < 0.1
    assert [row["client"] for row in finished.arrivals() if "clipped" in row] == [LIAR]


def test_what_claimed_too_much_was_refused_by_name_and_its_board_banned(finished: Deployment) -> None:
    refused = finished.arrivals(accepted=False)
    assert {(row["client"], row["reason"]) for row in refused} == {(LIAR, "samples")}
    assert "claims 1000000000 samples, introduced itself with" in refused[0]["detail"]
    bans = [row for row in finished.rows() if row["kind"] == "ban"]
    assert [(row["client"], len(refused)) for row in bans] == [(LIAR, 3)]
