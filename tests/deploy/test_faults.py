"""One run through which everything breaks once: it finishes, counts nothing twice, and its rows name each event."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress

import pytest
from deployment import CONFIG, Deployment, Row, until

from cosp.errors import CospError
from cosp.trainer.hand_over import describe

pytestmark = pytest.mark.deploy
BOARDS = 4
VERSIONS = 14
AWAY_S = 60.0
LONG = {
    **CONFIG,
    "training": {"epochs": 8, "batch_size": 16},
    # three of four close a round, so that the run does not end before what has died is noticed
    "server": {"versions": VERSIONS, "quorum": 0.75, "checkpoint_every": 1, "task_timeout_s": 300},
}
GONE = ("node-unavailable", "timeout")
"""A SuperNode that returns just as Flower would have noticed is never reported; its task is then given up."""
NOTICED_S = 900.0
"""Flower takes up to a minute to see that a node is gone; the rest is for a slow machine."""


def busy(deployment: Deployment, board: int) -> bool:
    with suppress(CospError):
        return bool(describe(deployment.folder / f"trainer-{board}.sock", wait_s=0.0)["busy"])
    return False


def kill_below(deployment: Deployment, name: str, word: str) -> None:
    """Kill the one process with ``word`` in its command line that ``name`` has started, and nothing else."""
    until(lambda: deployment.below(name, word), f"{name} runs {word}")
    for process in deployment.below(name, word):
        process.kill()


def failures(deployment: Deployment, *reasons: str) -> list[Row]:
    return [row for row in deployment.arrivals(accepted=False) if row["reason"] in reasons]


def came_back(deployment: Deployment, client: int, since_s: float) -> bool:
    return any(row["client"] == client and row["sent_s"] >= since_s for row in deployment.arrivals())


@pytest.fixture(scope="module")
def survived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with Deployment(tmp_path_factory.mktemp("faults"), LONG) as deployment:
        deployment.make_keys(BOARDS)
        deployment.cosp("store", str(deployment.config), "--out", "stores")
        deployment.start_server()
        for board in range(BOARDS):
            deployment.start_trainer(board)
            deployment.start_client(board)
        deployment.start_run()
        until(lambda: deployment.versions() >= 1, "the first version is made", NOTICED_S)

        until(lambda: busy(deployment, 0), "board 0 trains")
        kill_below(deployment, "client-0", "flwr-clientapp")
        until(lambda: busy(deployment, 1), "board 1 trains")
        deployment.kill("trainer-1")
        deployment.start_trainer(1)
        until(lambda: busy(deployment, 2), "board 2 trains")
        kill_below(deployment, "client-2", "patient_supernode")
        for client, reasons in ((0, ("client-died",)), (1, ("client-raised",)), (2, GONE)):
            until(lambda r=reasons: failures(deployment, *r), f"{' or '.join(reasons)} is in the rows", NOTICED_S)
            at_s = failures(deployment, *reasons)[0]["arrived_s"]
            until(lambda c=client, s=at_s: came_back(deployment, c, s), f"client {client} works again", NOTICED_S)

        version = deployment.versions()
        kill_below(deployment, "server", "guarded_superlink")
        until(lambda: deployment.versions() >= version + 2, "rounds close again after SuperLink's death", NOTICED_S)
        version = deployment.versions()
        deployment.kill("server", signal.SIGSTOP)  # so that nobody starts SuperLink again
        kill_below(deployment, "server", "guarded_superlink")
        time.sleep(AWAY_S)
        deployment.kill("server", signal.SIGCONT)
        until(lambda: deployment.versions() >= version + 2, "rounds close after a minute without SuperLink", NOTICED_S)
        kill_below(deployment, "server", "flwr-serverapp")
        deployment.wait_for_run(3 * NOTICED_S)
        yield deployment


def test_the_run_finishes(survived):
    metrics = json.loads((survived.folder / "run" / "metrics.json").read_text(encoding="utf-8"))
    assert (metrics["rounds"], metrics["ended_early"]) == (VERSIONS, None)
    assert metrics["final"]["global"]["accuracy"][-1] > 0.95


def test_every_version_is_made_once(survived):
    rounds = [row for row in survived.rows() if row["kind"] == "round"]
    assert [row["version"] for row in rounds] == list(range(VERSIONS + 1))


def test_no_update_is_counted_twice(survived):
    updates = Counter((row["client"], row["base_version"]) for row in survived.arrivals() if row["task"] == "train")
    assert max(updates.values()) == 1
    for row in (row for row in survived.rows() if row["kind"] == "round" and row["version"]):
        merged = [a for a in survived.arrivals() if a["task"] == "train" and a["version"] == row["version"] - 1]
        assert row["arrivals"] == len(merged)


def test_the_rows_name_each_event_and_its_board(survived):
    assert {0} == {row["client"] for row in failures(survived, "client-died")}
    assert {1} == {row["client"] for row in failures(survived, "client-raised")}
    assert {2} == {row["client"] for row in failures(survived, *GONE)}
    assert "died over the task, or was stopped" in failures(survived, "client-raised")[0]["detail"]
    resumes = sum(row["kind"] == "resume" for row in survived.rows())
    print(f"runs that went on from a checkpoint: {resumes}")
    assert 1 <= resumes <= 2  # the ServerApp was killed once; Flower may give it up when SuperLink is away for a minute


def test_metrics_and_rows_agree_on_what_was_refused(survived):
    metrics = json.loads((survived.folder / "run" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["refused"] == Counter(row["reason"] for row in survived.arrivals(accepted=False))


def test_clients_are_the_same_after_all_that(survived):
    """A SuperNode that returns with its key is the client that it was."""
    assert [row["client"] for row in survived.rows() if row["kind"] == "client"] == list(range(BOARDS))
    assert "SuperNode ended (SIGKILL)" in survived.log("client-2")
    nodes = json.loads(survived.cosp("server", "nodes", "--json").stdout)
    assert len(nodes) == BOARDS
