"""A board that has a tenth of a core for all of its processes: its tasks take longer, and the run finishes with it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator

import pytest
from deployment import CONFIG, Deployment
from limits import SlowProcessor, slow_processor_available

from cosp.trainer.hand_over import describe

pytestmark = pytest.mark.deploy
SHARE = 0.1
FREE, SLOW = 0, 1
VERSIONS = 2
STARTS_S = 600.0
RUN_S = 900.0
SMALL = {
    **CONFIG,
    "data": {"name": "digits", "train": 120, "validation": 20, "test": 40, "partition": {"kind": "iid"}},
    "fleet": {"boards": [{"count": 2, "device": "raspberry-pi-5", "link": "ethernet"}]},
    "training": {"epochs": 1, "batch_size": 16},
    "server": {"versions": VERSIONS, "quorum": 1.0, "task_timeout_s": RUN_S},
}


@pytest.fixture(scope="module")
def throttled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Deployment, SlowProcessor]]:
    """A finished run of two boards, one of which had ``SHARE`` of a core from its trainer's start on."""
    if why := slow_processor_available():
        pytest.skip(f"a slow processor needs root and control groups: {why}")
    folder = tmp_path_factory.mktemp("throttled")
    with SlowProcessor(f"cosp-{os.getpid()}", SHARE) as slow, Deployment(folder, SMALL) as deployment:
        deployment.make_keys(2)
        deployment.cosp("store", str(deployment.config), "--out", "stores")
        deployment.start_server()
        began_s = time.monotonic()
        for board, prefix in ((FREE, []), (SLOW, slow.prefix())):
            deployment.start_trainer(board, prefix=prefix)
            describe(folder / f"trainer-{board}.sock", wait_s=STARTS_S)
            print(f"trainer {board} is up {time.monotonic() - began_s:.0f} s after the first was started")
        for board, prefix in ((FREE, []), (SLOW, slow.prefix())):
            deployment.start_client(board, prefix=prefix)
        deployment.start_run()
        deployment.wait_for_run(RUN_S)
        yield deployment, slow


def test_the_run_finishes_with_it(throttled):
    deployment, slow = throttled
    metrics = json.loads((deployment.folder / "run" / "metrics.json").read_text(encoding="utf-8"))
    wanted, held_back = slow.periods
    print(f"of {wanted} tenths of a second in which the board wanted to work it was held back in {held_back}")
    assert held_back > wanted / 2
    assert (metrics["rounds"], metrics["ended_early"], metrics["refused"]) == (VERSIONS, None, {})


def test_no_task_of_it_was_begun_twice(throttled):
    deployment, _ = throttled
    done = sorted((row["client"], row["base_version"]) for row in deployment.arrivals())
    assert done == [(client, version) for client in (FREE, SLOW) for version in range(VERSIONS)]
    assert "did not start" not in deployment.log(f"client-{SLOW}")


def test_what_it_took_is_in_the_rows(throttled):
    deployment, _ = throttled
    took = {client: [row for row in deployment.arrivals() if row["client"] == client] for client in (FREE, SLOW)}
    for client, rows in took.items():
        for row in rows:
            print(
                f"board {client}, version {row['base_version']}: {row['arrived_s'] - row['sent_s']:.1f} s, of it "
                f"{row['compute_s']:.1f} s computing, {row['wall_cpu_s']:.1f} s of CPU"
            )
    share = {client: sum(r["wall_cpu_s"] for r in rows) / sum(r["compute_s"] for r in rows)
             for client, rows in took.items()}  # fmt: skip
    assert share[SLOW] < 3 * SHARE
    assert share[SLOW] < share[FREE]
