"""SuperLink, SuperExec, four SuperNodes and four trainers over TLS with keys learn what the virtual fleet learns."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Iterator

import pytest
from deployment import CONFIG, Deployment

from cosp.fleet import load_profile
from cosp.trainer.hand_over import describe

pytestmark = pytest.mark.deploy
BOARDS = 4
RUN_S = 900.0


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A deployment that has finished its run; the virtual run of the same configuration lies in ``virtual``."""
    folder = tmp_path_factory.mktemp("deployment")
    with Deployment(folder, CONFIG) as deployment:
        deployment.make_keys(BOARDS)
        deployment.cosp("store", str(deployment.config), "--out", "stores")
        deployment.start_server()
        for board in range(BOARDS):
            deployment.start_trainer(board)
            deployment.start_client(board)
        deployment.start_run()
        deployment.wait_for_run(RUN_S)
        deployment.cosp("run", str(deployment.config), "--out", "virtual", "--workers", "1")
        yield deployment


def test_boards_learn_what_the_virtual_fleet_learns(finished):
    """The same but for the last bits: updates are added up in the order in which they arrive."""
    real, virtual = (
        [row["evaluation"] for row in finished.rows(out) if row["kind"] == "round"] for out in ("run", "virtual")
    )
    assert len(real) == len(virtual) == 1 + CONFIG["server"]["versions"]
    for here, there in zip(real, virtual, strict=True):
        assert here["accuracy"] == pytest.approx(there["accuracy"], abs=0.005)
        assert here["loss"] == pytest.approx(there["loss"], rel=1e-3)
    assert real[-1]["accuracy"][-1] > 0.95


def test_every_task_came_back_once(finished):
    tasks = [(row["client"], row["base_version"]) for row in finished.arrivals()]
    assert sorted(tasks) == [(client, version) for client in range(BOARDS) for version in range(5)]
    assert finished.arrivals(accepted=False) == []


def test_the_rows_are_those_of_boards(finished):
    clients = [row for row in finished.rows() if row["kind"] == "client"]
    assert [(row["board"], row["link"]) for row in clients] == [(f"board-{n}", "own") for n in range(BOARDS)]
    shares = [describe(finished.folder / f"trainer-{board}.sock")["class_counts"] for board in range(BOARDS)]
    assert [row["class_counts"] for row in clients] == shares


def test_every_board_s_profile_is_corrected_by_what_it_trained(finished):
    for client in range(BOARDS):
        steps = [
            row["wall_step_s"] for row in finished.arrivals() if row["client"] == client and row["task"] == "train"
        ]
        profile = load_profile(finished.folder / "run" / "profiles" / f"client-{client}.yaml")
        assert len(steps) == 5
        assert re.fullmatch(r"corrected by [\d.]+ from 5 tasks that it trained", profile.calibration)


def test_a_report_is_drawn(finished):
    assert (finished.folder / "run" / "report.html").stat().st_size > 10_000
    metrics = json.loads((finished.folder / "run" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["rounds"] == 5


def test_no_private_key_was_shown_or_can_be_read_by_others(finished):
    private = sorted((finished.folder / "keys").glob("*.key"))
    assert len(private) == 2 + BOARDS
    said = "".join(path.read_text(encoding="utf-8", errors="replace") for path in finished.folder.glob("*.log"))
    for path in private:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert path.read_text(encoding="utf-8").split("\n")[1] not in said
