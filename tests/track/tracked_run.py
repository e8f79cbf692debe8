"""A run of two boards, fed to its tracks row by row as the run writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cosp.config import Config, load_config
from cosp.run.directory import RunDirectory
from cosp.track import Tracks

QUICKSTART = Path(__file__).resolve().parents[2] / "experiments" / "quickstart.yaml"
Row = dict[str, Any]


def config() -> Config:
    return load_config(QUICKSTART)


def opening() -> list[Row]:
    head = {"kind": "run", "name": "small", "method": "co-s2p", "seed": 0, "clients": 2, "blocks": 2, "exits": [1, 2]}
    head |= {"classes": ["a", "b"], "parameters": 10, "quorum": 1.0, "versions": 4}
    board = {"kind": "client", "board": "nano", "link": "wifi", "keep": 0.5, "samples": 9, "test_samples": 1}
    board |= {"class_counts": [4, 5], "memory_bytes": 10**9}
    return [head, board | {"client": 0}, board | {"client": 1, "board": "orin"}]


def arrival(version: int, client: int) -> Row:
    row = {"kind": "arrival", "client": client, "task": "train", "base_version": 0, "version": version}
    row |= {"staleness": version, "accepted": True, "reason": None, "samples": 9, "loss": 1.0 / (version + 1)}
    row |= {"depth": 1 + client, "parameters": 5, "sent_s": 1.0 * version, "download_s": 0.1, "compute_s": 0.2}
    row |= {"upload_s": 0.1, "arrived_s": version + 0.4, "bytes_down": 5, "bytes_up": 4, "energy_j": 2.0}
    return row | {
        "peak_memory_bytes": 10**6,
        "local_accuracy_received": 0.4,
        "local_accuracy_trained": 0.5 + client / 4,
    }


def closed(version: int, by: str = "quorum") -> Row:
    scores = {"accuracy": [0.1 * version, 0.2 * version], "loss": [2.0, 1.0], "macro_f1": [0.0, 0.1]}
    scores |= {"mean_accuracy": 0.15 * version, "chosen_exit": 1, "chosen_accuracy": 0.2 * version}
    row = {
        "kind": "round",
        "version": version,
        "virtual_s": 1.0 * version,
        "closed_by": by,
        "arrivals": 2,
        "in_flight": 0,
    }
    row |= {"coverage": [1.0, 0.5], "drift": 0.3, "evaluation": scores, "bytes_down": 10, "bytes_up": 8}
    return row | {"energy_j": 4.0 * version, "utilisation": 0.5}


def version_rows(version: int) -> list[Row]:
    return [arrival(version - 1, 0), arrival(version - 1, 1), closed(version)]


class TrackedRun:
    """Writes rows to a directory and to its tracks, as ``cosp run`` does."""

    def __init__(self, folder: Path, *wanted: str, place: str | None = None, new: bool = True) -> None:
        self.folder = folder
        self.directory = RunDirectory.create(folder, config()) if new else RunDirectory(folder)
        self.tracks = Tracks(folder, config(), dict.fromkeys(wanted, place))

    def write(self, *rows: Row) -> None:
        for row in rows:
            self.directory.write_row(row)
            self.tracks.on_row(row)

    def finish(self) -> None:
        (self.folder / "report.html").write_text("<!doctype html>")
        (self.folder / "metrics.json").write_text(json.dumps({"final": {}, "best": {}, "wall_time_s": 1.0}))
        self.tracks.finish([self.folder / "report.html"])


def killed_and_resumed(folder: Path, tracker: str, place: str | None = None) -> TrackedRun:
    """Run to version 3, end as by Ctrl-C, go on from a checkpoint at version 1 to version 4, which is judged late."""
    run = TrackedRun(folder, tracker, place=place)
    run.write(*opening(), closed(0, "start"), *version_rows(1))
    checkpoint_bytes = run.directory.rows_bytes()
    run.write(*version_rows(2), *version_rows(3), arrival(3, 0))
    run.tracks.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    run = TrackedRun(folder, new=False)  # no --track beside --resume: it goes on where it was
    run.directory.cut_rows(checkpoint_bytes)
    run.write(*version_rows(2), *version_rows(3))
    run.write(*version_rows(4)[:2], closed(4) | {"evaluation": None}, closed(4, "end"))
    run.finish()
    return run
