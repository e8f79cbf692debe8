"""What a run's process says of itself, in a real (dry) run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cosp.config import load_config
from cosp.experiment import load_experiment
from cosp.run import now
from cosp.run.directory import RunDirectory
from cosp.simulation.simulate import simulate
from cosp.watch.follow import Follow

QUICKSTART = Path(__file__).resolve().parents[2] / "experiments" / "quickstart.yaml"
DRY = ["server.versions=6", "server.concurrency=6", "server.quorum=3"]


def dry_run(folder: Path, on_row: Any = lambda row: None) -> bytes:
    config = load_config(QUICKSTART, DRY)
    simulate(load_experiment(config), RunDirectory.create(folder, config), workers=0, on_row=on_row, dry=True)
    return (folder / "rows.jsonl").read_bytes()


@pytest.fixture
def _at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(now, "EVERY_S", 0.0)
    monkeypatch.setattr(now, "REST", 0)


@pytest.mark.usefixtures("_at_every_step")
def test_who_works_is_said_while_it_runs_and_nothing_is_left(tmp_path: Path) -> None:
    folder, seen = tmp_path / "run", []
    follow = Follow(folder)

    def look(row: dict[str, Any]) -> None:
        if row["kind"] == "arrival":
            seen.append((row, json.loads((folder / "now.json").read_text()), follow.state()))

    dry_run(folder, look)
    assert len(seen) > 20
    for row, said, state in seen:
        clients = [client for client, *_ in said["tasks"]]
        assert row["client"] in clients  # it was under way until now
        assert len(clients) == len(set(clients)) <= 6
        assert state["status"] == "running"
        assert state["letters"].count("t") + state["letters"].count("s") == len(clients)
        assert said["virtual_s"] <= row["arrived_s"]
    assert sorted(path.name for path in folder.iterdir()) == ["config.yaml", "metrics.json", "rows.jsonl", "run.log"]
    assert follow.state()["status"] == "ended"
    assert follow.state()["done"] == 1.0


@pytest.mark.usefixtures("_at_every_step")
def test_rows_are_the_same_to_the_byte_whether_it_is_written_or_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = dry_run(tmp_path / "a")

    def full(path: Path, text: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(now, "write_whole", full)
    assert dry_run(tmp_path / "b") == written


@pytest.mark.usefixtures("_at_every_step")
def test_a_run_that_fails_takes_it_away(tmp_path: Path) -> None:
    def fail(row: dict[str, Any]) -> None:
        if row["kind"] == "round" and row["version"] == 2:
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        dry_run(tmp_path / "run", fail)
    assert not (tmp_path / "run" / "now.json").exists()
    assert Follow(tmp_path / "run").state()["status"] == "stopped"
