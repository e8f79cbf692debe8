"""A run directory in the middle of its life: rows, and what its process says of itself."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

Row = dict[str, Any]


class Half:
    """Writes a run of few boards row by row."""

    def __init__(self, folder: Path, clients: int = 3) -> None:
        self.folder = folder
        folder.mkdir()
        (folder / "config.yaml").write_text("name: half\nversions: {cosp: '0'}\n")
        self.row(kind="run", name="half", method="co-s2p", seed=1, clients=clients, blocks=2, exits=[1, 2], versions=4)
        for client in range(clients):
            self.row(kind="client", client=client, board=("nano", "orin")[client % 2], memory_bytes=10**9 + client)

    def row(self, **row: Any) -> None:
        with (self.folder / "rows.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")

    def arrival(self, client: int, *, staleness: int = 0, reason: str | None = None, **facts: Any) -> None:
        row = {"kind": "arrival", "client": client, "task": "train", "base_version": 0, "staleness": staleness}
        row |= {"accepted": reason is None, "reason": reason, "arrived_s": 2.0, "energy_j": 3.0}
        self.row(**(row | {"peak_memory_bytes": 5e6, "local_accuracy_trained": 0.5} | facts))

    def round(self, version: int, virtual_s: float, accuracy: tuple[float, float] | None = None) -> None:
        scores = {"accuracy": accuracy, "mean_accuracy": 0.75, "chosen_exit": 1}
        row = {"kind": "round", "version": version, "virtual_s": virtual_s, "energy_j": 9.0 * version}
        row |= {"utilisation": 0.5, "bytes_down": 70, "bytes_up": 7, "evaluation": scores if accuracy else None}
        self.row(**row)

    def now(self, **facts: Any) -> None:
        row = {"host": socket.gethostname(), "pid": os.getpid(), "virtual": True, "version": 2, "virtual_s": 5.0}
        row |= {"versions": 4, "until_s": None, "tasks": [[0, "train", 2, 4.0]], "off": [1], "sits_out": []}
        row |= {"began": {"version": 0, "virtual_s": 0.0}, "wall_s": 30.0}
        (self.folder / "now.json").write_text(json.dumps(row | facts))
