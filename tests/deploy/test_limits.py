"""Machines that are too small: the server's disk fills up, a board's disk is full, a trainer outgrows its memory."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from deployment import CONFIG, Deployment, Row, until
from limits import MemoryLimit, available, fill, make_room, small_disk

from cosp.trainer.hand_over import describe

pytestmark = pytest.mark.deploy
BOARDS = 3
VERSIONS = 8
SMALL = {
    **CONFIG,
    "fleet": {"boards": [{"count": BOARDS, "device": "raspberry-pi-5", "link": "ethernet"}]},
    "server": {"versions": VERSIONS, "quorum": 1, "checkpoint_every": 1},
}
SERVER_DISK_MIB, BOARD_DISK_MIB = 16, 8
NOTICED_S = 900.0


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Deployment, str, Row]]:
    """A run whose server's disk filled up and was given room again; what its first command said at its end; and the row
    that named board 2 then, which a run that goes on from a checkpoint before it has no more.

    Board 1 keeps data, code and socket on a disk that is full from the first version on. The trainer of board 2 has
    memory to start and too little to train; after it was killed it is started again with enough.
    """
    folder = tmp_path_factory.mktemp("limits")
    if why := available(folder / "try"):
        pytest.skip(f"small disks and memory limits need root and control groups: {why}")
    with (
        small_disk(folder / "disk", SERVER_DISK_MIB) as disk,
        small_disk(folder / "home-1", BOARD_DISK_MIB) as board_disk,
        MemoryLimit(f"cosp-{os.getpid()}") as memory,
        Deployment(folder, SMALL) as deployment,
    ):
        deployment.make_keys(BOARDS)
        deployment.cosp("store", str(deployment.config), "--out", "stores")
        shutil.move(folder / "stores" / "1", board_disk / "store")
        (folder / "stores" / "1").symlink_to(board_disk / "store")
        deployment.start_server()
        for board in range(BOARDS):
            deployment.start_trainer(board, prefix=memory.prefix() if board == 2 else ())
            describe(folder / f"trainer-{board}.sock", wait_s=NOTICED_S)
            deployment.start_client(board)
        memory.leave(1 << 20)
        deployment.start_run("disk/run", "--restarts", "0")
        until(lambda: memory.kills, "the kernel kills a trainer", NOTICED_S)
        assert deployment.processes["trainer-2"].wait(NOTICED_S) == -signal.SIGKILL
        until(lambda: lost(deployment, 2), "the rows name board 2", NOTICED_S)
        killed = lost(deployment, 2)[0]
        until(lambda: done(deployment, 1), "board 1 has trained", NOTICED_S)
        fill(board_disk)
        deployment.start_trainer(2)
        filled_at = deployment.versions("disk/run")
        until(lambda: deployment.versions("disk/run") > filled_at, "the run goes on", NOTICED_S)
        fill(disk)
        code = deployment.processes["run"].wait(NOTICED_S)
        said = deployment.log("run")
        assert code == 1, said
        make_room(disk)
        deployment.start("run", "server", "run", "--resume", "disk/run")
        deployment.wait_for_run(2 * NOTICED_S)
        print(f"trainers killed: {memory.kills}")
        yield deployment, said, killed


def lost(deployment: Deployment, client: int) -> list[Row]:
    return [row for row in deployment.arrivals("disk/run", accepted=False) if row["client"] == client]


def done(deployment: Deployment, client: int) -> list[Row]:
    return [row for row in deployment.arrivals("disk/run") if row["client"] == client]


def test_a_full_disk_ends_the_run_with_one_line_that_says_how_to_go_on(limited):
    deployment, said, _ = limited
    (line,) = [line for line in said.splitlines() if line.startswith("cosp: ")]
    print(line)
    assert "No space left on device" in line
    assert f"{deployment.folder / 'disk' / 'run'}: cannot be written" in line
    assert "cosp server run --resume" in line


def test_with_room_again_the_run_finishes_and_counts_nothing_twice(limited):
    deployment, *_ = limited
    rows = deployment.rows("disk/run")
    assert [row["version"] for row in rows if row["kind"] == "round"] == list(range(VERSIONS + 1))
    assert sum(row["kind"] == "resume" for row in rows) == 1
    updates = [
        (row["client"], row["base_version"]) for row in deployment.arrivals("disk/run") if row["task"] == "train"
    ]
    assert len(updates) == len(set(updates))
    metrics = json.loads((deployment.folder / "disk" / "run" / "metrics.json").read_text(encoding="utf-8"))
    assert (metrics["rounds"], metrics["ended_early"]) == (VERSIONS, None)


def test_a_board_whose_disk_is_full_trains_on(limited):
    """Its data are in memory, and Flower has the app's code since the first task."""
    deployment, *_ = limited
    assert lost(deployment, 1) == [] or {row["reason"] for row in lost(deployment, 1)} == {"server-restarted"}
    assert max(row["base_version"] for row in done(deployment, 1)) > 1


def test_a_trainer_that_the_kernel_kills_is_named_and_comes_back(limited):
    deployment, _, killed = limited
    print(killed["reason"], killed["detail"])
    assert killed["reason"] == "client-raised"
    assert "died over the task, or was stopped" in killed["detail"]
    assert done(deployment, 2)


def test_a_store_that_finds_no_room_is_one_line(limited, tmp_path: Path):
    deployment, *_ = limited
    with small_disk(tmp_path / "tiny", 1) as tiny:
        fill(tiny)
        said = deployment.cosp("store", str(deployment.config), "--out", str(tiny / "stores"), check=False)
    assert (said.returncode, said.stderr.count("\n")) == (2, 1)
    assert f"{tiny / 'stores'}: cannot be written" in said.stderr
