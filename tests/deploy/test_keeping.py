"""The server's keeper: who is there by name, a run that is left and followed again, stopped, read; a board let out."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator

import pytest
from deployment import CONFIG, Deployment, until

pytestmark = pytest.mark.deploy
ALONE = {
    **CONFIG,
    "data": {"name": "digits", "train": 60, "validation": 20, "test": 40, "partition": {"kind": "iid"}},
    "fleet": {"boards": [{"device": "jetson-orin-nano-8", "link": "ethernet", "keep": 0.5}]},
    "training": {"epochs": 1, "batch_size": 16},
    "server": {"versions": 1000, "quorum": 1.0, "checkpoint_every": 1},
}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A server that has admitted two boards, of which one is there."""
    with Deployment(tmp_path_factory.mktemp("keeping"), ALONE) as deployment:
        deployment.make_keys(2)
        deployment.cosp("store", str(deployment.config), "--out", "stores")
        deployment.start_server()
        deployment.start_trainer(0)
        deployment.start_client(0)
        yield deployment


def test_boards_have_names_and_one_that_is_removed_is_gone(alone):
    names = {node["name"]: node["status"] for node in json.loads(alone.cosp("server", "nodes", "--json").stdout)}
    assert names.keys() == {"board-0", "board-1"}
    assert "board-1         registered  was never online" in alone.cosp("server", "nodes").stdout
    assert alone.cosp("server", "remove", "board-1").stdout.startswith("board-1: removed (node ")
    assert "board-1" not in alone.cosp("server", "nodes").stdout
    done = alone.cosp("server", "remove", "board-1", check=False)
    assert (done.returncode, done.stderr) == (
        2, "cosp: server remove: board-1: is no admitted board; those are: board-0\n"
    )  # fmt: skip


def test_where_no_run_was_started_there_is_none_to_stop(alone):
    for command in ("stop", "logs", "follow"):
        done = alone.cosp("server", command, check=False)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert "no run was started here" in done.stderr


def test_a_run_is_left_followed_again_and_stopped(alone):
    alone.start_run()
    until(lambda: "version 1 after" in alone.log("run"), "the board has trained")  # a line a version: no terminal
    alone.kill("run", signal.SIGINT)
    assert alone.processes["run"].wait(60) == 130
    said = alone.log("run")
    assert "follow it again: cosp server follow; end it: cosp server stop" in said

    before = alone.versions()
    alone.start("again", "server", "follow")
    until(lambda: alone.versions() > before, "the run goes on")
    until(lambda: f"version {before + 1} after" in alone.log("again"), "it is followed")
    assert "go on with: cosp server run --resume" in alone.cosp("server", "stop").stdout
    assert alone.processes["again"].wait(120) == 1
    assert "finished:stopped" in alone.log("again")
    assert "version 1 after" in alone.cosp("server", "logs").stdout
    done = alone.cosp("server", "stop", check=False)
    assert (done.returncode, done.stderr.strip()) == (2, done.stderr.strip())
    assert "is finished:stopped already" in done.stderr
