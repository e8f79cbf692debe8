"""Boards in network namespaces behind links of known speed: what rounds take beside what the virtual fleet says."""

from __future__ import annotations

import itertools
import json
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from deployment import CONFIG, Deployment, Row, until
from network import SERVER, Link, Network, available

pytestmark = pytest.mark.deploy
LINKS = [
    Link(rate_mbit_s=100.0),
    Link(rate_mbit_s=100.0),
    Link(rate_mbit_s=8.0, delay_ms=40.0, loss=0.02),
    Link(rate_mbit_s=0.5),
]
"""Two boards on a good link, one on a bad radio link, one straggler."""
VERSIONS = 5
CUT_S = 90.0
NOTICED_S = 900.0
SHAPED = {**CONFIG, "server": {"versions": VERSIONS, "quorum": 1.0, "checkpoint_every": 1}}


@pytest.fixture(scope="module")
def shaped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A finished run of five rounds; in the last, board 1 was cut off for 90 s."""
    if not available():
        pytest.skip("network namespaces, bridges, token buckets and TAP devices need root and a kernel that has them")
    folder = tmp_path_factory.mktemp("network")
    boards = len(LINKS)
    with Network(LINKS) as network, Deployment(folder, SHAPED, address=SERVER) as deployment:
        deployment.make_keys(boards)
        deployment.cosp("store", str(deployment.config), "--out", "stores")
        deployment.start_server()
        for board in range(boards):
            deployment.start_trainer(board)
            deployment.start_client(board, prefix=network.prefix(board))
        deployment.start_run()
        until(lambda: deployment.versions() >= VERSIONS - 1, "rounds close", 2 * NOTICED_S)
        network.cut(1)
        time.sleep(CUT_S)
        network.mend(1)
        deployment.wait_for_run(2 * NOTICED_S)
        yield deployment


def tasks(deployment: Deployment, client: int) -> list[Row]:
    """Return the client's finished tasks, without the first, which brings the app's code and a cold trainer."""
    return [row for row in deployment.arrivals() if row["client"] == client and row["base_version"] > 0]


def besides_s(deployment: Deployment, client: int) -> list[float]:
    return [row["arrived_s"] - row["sent_s"] - row["compute_s"] for row in tasks(deployment, client)]


def beside_compute_s(deployment: Deployment, client: int) -> float:
    return statistics.median(besides_s(deployment, client))


def wire_s(deployment: Deployment, client: int) -> float:
    row = tasks(deployment, client)[0]
    return (row["bytes_down"] + row["bytes_up"]) * 8 / (LINKS[client].rate_mbit_s * 1e6)


def test_a_slow_link_costs_what_its_bytes_say(shaped):
    """Beside computing no task of the straggler takes less than its bytes need, and the best of them no more than that
    and what Flower takes of a task at its worst on a good link. A machine's load only adds: it moves neither.
    """
    found, needed_s = besides_s(shaped, 3), wire_s(shaped, 3)
    good = [value for client in (0, 1) for value in besides_s(shaped, client)]
    print(
        f"beside computing: {min(found):.1f} to {max(found):.1f} s, its bytes need {needed_s:.1f} s; on good links "
        f"{min(good):.1f} to {max(good):.1f} s"
    )
    assert min(found) > 0.9 * needed_s
    assert min(found) < 1.5 * needed_s + max(good)


def test_a_link_that_delays_and_loses_frames_loses_no_task(shaped):
    done = [row["base_version"] for row in shaped.arrivals() if row["client"] == 2]
    bad_s, good_s = beside_compute_s(shaped, 2), beside_compute_s(shaped, 0)
    print(f"beside computing: {bad_s:.1f} s over the bad link, {good_s:.1f} s over a good one")
    assert sorted(done) == list(range(VERSIONS))
    assert not [row for row in shaped.arrivals(accepted=False) if row["client"] == 2]


def test_rounds_take_what_the_virtual_fleet_says(shaped):
    """The virtual fleet gets this machine's speed and what Flower itself needs for a task, and says the rest."""
    flower_s = beside_compute_s(shaped, 0) - wire_s(shaped, 0)
    compute_s = statistics.median(row["compute_s"] for client in range(4) for row in tasks(shaped, client))
    predicted_s = statistics.median(virtual_rounds_s(shaped, flower_s, compute_s))
    closed = [row["virtual_s"] for row in shaped.rows() if row["kind"] == "round"][1:VERSIONS]
    measured_s = statistics.median(b - a for a, b in itertools.pairwise(closed))
    error = predicted_s / measured_s - 1
    print(
        f"Flower's own share of a task {flower_s:.1f} s, computing {compute_s:.1f} s; "
        f"a round: measured {measured_s:.1f} s, predicted {predicted_s:.1f} s ({error:+.0%})"
    )
    assert abs(error) < 0.5


def test_a_board_that_was_cut_off_is_named_and_the_run_goes_on(shaped):
    metrics = json.loads((shaped.folder / "run" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["rounds"] == VERSIONS
    lost = [row for row in shaped.arrivals(accepted=False) if row["client"] == 1]
    assert [row["reason"] for row in lost] == ["node-unavailable"]
    print("lost:", [(row["client"], row["reason"], round(row["arrived_s"] - row["sent_s"])) for row in lost])


def virtual_rounds_s(deployment: Deployment, flower_s: float, compute_s: float) -> list[float]:
    """Return the round times of a dry run whose boards compute for ``compute_s`` and whose links add ``flower_s``."""
    links = {
        f"link{n}": {"title": f"{link.rate_mbit_s} Mbit/s", "downlink_mbit_s": link.rate_mbit_s,
                     "uplink_mbit_s": link.rate_mbit_s, "latency_ms": 1000 * flower_s / 2 + link.delay_ms}
        for n, link in enumerate(LINKS)
    }  # fmt: skip
    plain = dry_tasks(deployment, links, 1.0, "plain")
    slowdown = compute_s / statistics.median(row["compute_s"] for row in plain if row["kind"] == "arrival")
    rows = dry_tasks(deployment, links, slowdown, "fitted")
    closed = [row["virtual_s"] for row in rows if row["kind"] == "round"]
    return [b - a for a, b in itertools.pairwise(closed)]


def dry_tasks(deployment: Deployment, links: dict[str, Any], slowdown: float, out: str) -> list[Row]:
    boards = [
        {"count": 1, "device": "desktop-rtx-4090", "link": link, "keep": 1.0, "slowdown": slowdown} for link in links
    ]
    path = Path(deployment.folder / f"{out}.yaml")
    path.write_text(yaml.safe_dump({**SHAPED, "jitter": 0.0, "fleet": {"boards": boards, "links": links}}))
    deployment.cosp("run", str(path), "--dry", "--out", out)
    return deployment.rows(out)
