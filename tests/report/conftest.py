"""Run directories written by a small simulated semi-asynchronous timeline, seeded, true to the contract of the rows."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# name, seconds for one full-model task, share kept, usable bytes, bytes a second, watts
BOARDS = [
    ("jetson-nano", 900.0, 0.25, 2.4e9, 1.5e6, 9.0),
    ("jetson-tx2", 420.0, 0.25, 6.1e9, 3e6, 14.0),
    ("xavier-nx-8", 300.0, 0.5, 6.2e9, 5e6, 15.0),
    ("xavier-nx-16", 280.0, 0.5, 13.6e9, 5e6, 18.0),
    ("orin-nano-8", 160.0, 0.5, 6.4e9, 8e6, 14.0),
    ("agx-xavier-32", 190.0, 1.0, 28e9, 11e6, 28.0),
]
PARAMETERS, BLOCKS, EXITS, STALE = 5_600_000, 8, [2, 4, 6, 8], 4
KINDS_OF_CLOTHES = [
    "T-shirt",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
]


class Simulation:
    """Boards that train at their own pace and a server that closes a round when the quorum has arrived."""

    def __init__(self, *, clients: int, versions: int, seed: int, skill: float) -> None:
        self.rng = random.Random(seed)
        self.versions, self.skill = versions, skill
        self.boards = [BOARDS[i * len(BOARDS) // clients] for i in range(clients)]
        self.samples = [self.rng.randint(200, 1200) for _ in self.boards]
        self.down = self.up = 0
        self.energy_j = self.busy_s = self.now_s = 0.0
        self.rows: list[dict[str, Any]] = []

    def header(self, name: str, method: str, seed: int) -> None:
        self.rows.append(
            {
                "kind": "run",
                "name": name,
                "method": method,
                "seed": seed,
                "clients": len(self.boards),
                "blocks": BLOCKS,
                "exits": EXITS,
            }
            | {"classes": KINDS_OF_CLOTHES, "parameters": PARAMETERS, "quorum": 0.5, "versions": self.versions}
        )
        for client, (board, _, keep, memory, _, _) in enumerate(self.boards):
            weights = [self.rng.gammavariate(0.5, 1.0) for _ in KINDS_OF_CLOTHES]
            counts = [round(self.samples[client] * weight / sum(weights)) for weight in weights]
            self.samples[client] = sum(counts)
            self.rows.append(
                {
                    "kind": "client",
                    "client": client,
                    "board": board,
                    "link": "wifi",
                    "keep": keep,
                    "samples": sum(counts),
                }
                | {"test_samples": sum(counts) // 4, "class_counts": counts, "memory_bytes": int(memory)}
            )

    def task(self, client: int, *, task: str, base: int, sent_s: float) -> dict[str, Any]:
        _board, full_s, keep, memory, speed, watts = self.boards[client]
        jitter = self.rng.lognormvariate(0.0, 0.15)
        wire = int(4 * PARAMETERS * keep)
        up = wire if task == "train" else 4 * BLOCKS * 64
        download_s, upload_s = wire / speed * jitter, up / speed * 1.6 * jitter
        compute_s = full_s * keep * self.samples[client] / 700 * jitter * (0.2 if task == "score" else 1.0)
        before = max(0.0, self.accuracy(base) - self.rng.uniform(0.0, 0.12))
        train = task == "train"
        return (
            {"kind": "arrival", "client": client, "task": task, "base_version": base, "samples": self.samples[client]}
            | {"loss": 2.2 * math.exp(-base / 15) + 0.3 if train else None, "depth": {0.25: 4, 0.5: 6, 1.0: 8}[keep]}
            | {"parameters": int(PARAMETERS * keep), "sent_s": sent_s, "download_s": download_s, "compute_s": compute_s}
            | {
                "upload_s": upload_s,
                "arrived_s": sent_s + download_s + compute_s + upload_s,
                "bytes_down": wire,
                "bytes_up": up,
            }
            | {"energy_j": compute_s * watts + (download_s + upload_s) * watts / 3}
            | {"peak_memory_bytes": int(min(0.9 * memory, 24 * PARAMETERS * keep + 6e8 * jitter))}
            | {"local_accuracy_received": before if train else None}
            | {"local_accuracy_trained": min(1.0, before + self.rng.uniform(0.01, 0.15)) if train else None}
        )

    def accuracy(self, version: float) -> float:
        return 0.1 + (self.skill - 0.1) * (1 - math.exp(-version / 9))

    def arrive(self, row: dict[str, Any], version: int) -> bool:
        staleness = version - row["base_version"]
        luck = self.rng.random()
        reason = (
            "stale"
            if staleness > STALE
            else "non-finite"
            if luck < 0.01
            else "error:MemoryError"
            if luck < 0.015
            else None
        )
        accepted = reason is None
        weight = row["samples"] / math.sqrt(1 + staleness) if accepted and row["task"] == "train" else 0.0
        self.rows.append(
            row | {"version": version, "staleness": staleness, "accepted": accepted, "reason": reason, "weight": weight}
        )
        self.down, self.up = self.down + row["bytes_down"], self.up + row["bytes_up"]
        self.energy_j += row["energy_j"]
        self.busy_s += row["arrived_s"] - row["sent_s"]
        return accepted and row["task"] == "train"

    def close(self, version: int, merged: list[dict[str, Any]], in_flight: list[dict[str, Any]]) -> None:
        coverage = [0.0] * BLOCKS
        for row in merged:
            for block in range(row["depth"]):
                kept = row["parameters"] / PARAMETERS
                coverage[block] += 0.35 * kept * (1 - coverage[block])
        exits = [self.accuracy(version) * (0.88 + 0.04 * i) + self.rng.gauss(0, 0.006) for i in range(len(EXITS))]
        scores = {"accuracy": exits, "loss": [2.3 - 2 * a for a in exits], "macro_f1": [a - 0.01 for a in exits]}
        scores |= {"mean_accuracy": max(exits) + 0.008, "chosen_exit": 2, "chosen_accuracy": exits[2]}
        scores |= {"validation_accuracy": [a - 0.01 for a in exits]}
        busy_s = self.busy_s + sum(min(self.now_s, row["arrived_s"]) - row["sent_s"] for row in in_flight)
        self.rows.append(
            {
                "kind": "round",
                "version": version,
                "virtual_s": self.now_s,
                "closed_by": "quorum" if version else "start",
            }
            | {
                "arrivals": len(merged),
                "in_flight": len(in_flight),
                "coverage": coverage,
                "bytes_up": self.up,
            }
            | {"evaluation": scores if version % 2 == 0 else None, "bytes_down": self.down, "energy_j": self.energy_j}
            | {"utilisation": busy_s / (len(self.boards) * self.now_s) if self.now_s else 0.0, "wall_s": 0.7 * version}
        )

    def play(self) -> None:
        self.close(0, [], [])
        flying = [self.task(c, task="score", base=0, sent_s=0.0) for c in range(len(self.boards))]
        for version in range(self.versions):
            merged: list[dict[str, Any]] = []
            while len(merged) < len(self.boards) // 2:
                row = min(flying, key=lambda row: row["arrived_s"])
                flying.remove(row)
                self.now_s = row["arrived_s"]
                if self.arrive(row, version):
                    merged.append(row)
                else:
                    flying.append(self.task(row["client"], task="train", base=version, sent_s=self.now_s))
            self.close(version + 1, merged, flying)
            flying += [self.task(row["client"], task="train", base=version + 1, sent_s=self.now_s) for row in merged]

    def metrics(self) -> dict[str, Any]:
        rounds = [row for row in self.rows if row["kind"] == "round"]
        final = {"local": {"mean": 0.91, "worst_decile": 0.78}} | {"global": rounds[-1]["evaluation"]}
        return {
            "final": final,
            "best": final,
            "rounds": self.versions,
            "wall_time_s": 83.0,
            "virtual_time_s": self.now_s,
        }


MakeRun = Callable[..., Path]


@pytest.fixture(scope="session")
def make_run() -> MakeRun:
    """Write a run directory: ``make_run(folder, clients=16, versions=40, killed=False, ...) -> folder``."""

    def make(
        folder: Path,
        *,
        clients: int = 16,
        versions: int = 40,
        seed: int = 0,
        method: str = "cosp",
        skill: float = 0.92,
        killed: bool = False,
    ) -> Path:
        simulation = Simulation(clients=clients, versions=versions, seed=seed, skill=skill)
        simulation.header(folder.name, method, seed)
        simulation.play()
        text = "".join(json.dumps(row, sort_keys=True) + "\n" for row in simulation.rows)
        folder.mkdir(parents=True)
        (folder / "rows.jsonl").write_text(text[: int(0.6 * len(text))] if killed else text)
        if not killed:
            (folder / "metrics.json").write_text(json.dumps(simulation.metrics(), sort_keys=True))
        (folder / "config.yaml").write_text(
            f"name: {folder.name}\nmethod: {method}\nseed: {seed}\nrounds: {versions}\n"
        )
        return folder

    return make
