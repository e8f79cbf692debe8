"""Everything a run needs to go on as if it had never stopped: the model's versions in use, momentum, clients' records,
totals, and what is in flight. A resumed run writes the same rows as one that was not interrupted.

A checkpoint is two files, ``state-V.safetensors`` and ``state-V.json``; the second is put in place last, so a
process killed while writing leaves the previous checkpoint whole.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from cosp.config import Config, checked
from cosp.errors import UserError
from cosp.files import write_whole
from cosp.fleet.introduction import Budget
from cosp.run.saved import check_settings, making_sense, newest, settings_of
from cosp.run.virtual import VirtualTime
from cosp.server.coordinator import Coordinator
from cosp.server.ledger import Ledger
from cosp.server.loop import Dispatch, Loop
from cosp.task.serial import task_from_json, task_to_json

COUNTERS = ("tasks", "dispatches", "last_version", "merged_at", "scored_at")
"""What a checkpoint keeps of a client's record beside its scores."""
FREE = ("server.versions", "server.until_s")
"""Settings that may change in a run that goes on: when it ends."""
FREE_ON_BOARDS = ("server.",)
"""The same with real boards, of which nobody expects the same rows: also how the server waits for them."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint as read from ``path``: ``tensors`` by key, ``facts`` as JSON."""

    path: Path
    tensors: dict[str, Tensor]
    facts: dict[str, Any]

    @property
    def now_s(self) -> float:
        return float(self.facts["now_s"])

    @property
    def rows_bytes(self) -> int:
        return int(self.facts["rows_bytes"])

    @property
    def banned(self) -> dict[str, int]:
        """Clients that were banned, and their nodes."""
        return dict(self._fact("ledger").get("banned", {}))

    @property
    def fleet(self) -> dict[str, Any]:
        """Where the virtual fleet stood: ``VirtualTime.state``."""
        return self._fact("fleet")

    def check_config(self, config: Config, *, free: Collection[str] = FREE) -> None:
        """UserError if the run began with other settings than ``config``'s, but for those that start as in ``free``."""
        with self.in_use():  # what an older cosp had no key for is as its default says
            began = settings_of(checked(self._fact("config"), self.path))
        check_settings(self.path.parent.parent, began, settings_of(config), free=free, what="run")

    def _fact(self, name: str) -> dict[str, Any]:
        try:
            return dict(self.facts[name])
        except KeyError:
            raise UserError(
                f"{self.path}: the checkpoint is of an older cosp, without {name!r}; start the run anew"
            ) from None

    def in_use(self) -> AbstractContextManager[None]:
        """Turn what its values make go wrong into UserError: it is damaged."""
        return making_sense(self.path, "run")

    @property
    def in_flight(self) -> list[Dispatch]:
        return [Dispatch(task_from_json(d["task"]), d["node"], d["sent_s"]) for d in self.facts["in_flight"]]


def save(folder: Path, loop: Loop, config: Config, *, rows_bytes: int) -> None:
    """Write a checkpoint of ``loop``, which runs ``config`` and has just closed a round, and remove older ones."""
    folder.mkdir(exist_ok=True)
    coordinator = loop.coordinator
    stem = f"state-{coordinator.version:06d}"
    facts = {
        "version": coordinator.version,
        "snapshots": list(coordinator.snapshots),
        "now_s": loop.now_s(),
        "rows_bytes": rows_bytes,
        "config": settings_of(config),
        "fleet": loop.grid.state() if isinstance(loop.grid, VirtualTime) else {},
        "ledger": loop.ledger.as_json(),
        "norms": list(coordinator.bound.norms) if coordinator.bound else [],
        "records": {
            str(client): {
                **{name: getattr(record, name) for name in COUNTERS},
                "budget": asdict(record.introduction.budget),
                **({"kept": sorted(record.kept)} if record.kept else {}),
            }
            for client, record in ((client, coordinator.records[client]) for client in coordinator.records.begun())
        },
        "in_flight": [
            {"task": task_to_json(d.task), "node": d.node, "sent_s": d.sent_s} for d in loop.in_flight.values()
        ],
    }
    save_file(_tensors(coordinator), folder / f"{stem}.safetensors")
    write_whole(folder / f"{stem}.json", json.dumps(facts))
    for path in folder.iterdir():
        if not path.name.startswith(stem):
            path.unlink()


def load(folder: Path) -> Checkpoint | None:
    """Return the newest whole checkpoint, None if there is none; UserError if it cannot be read."""
    path = newest(folder)
    if path is None:
        return None
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        read = Checkpoint(path, load_file(path.with_suffix(".safetensors")), facts)
        if read.now_s < 0 or read.rows_bytes < 1:
            raise ValueError("a time is negative, or there are no rows")
        return read
    except Exception as error:
        raise UserError(f"{path}: the checkpoint cannot be read ({error}); start the run anew") from error


def restore(checkpoint: Checkpoint, coordinator: Coordinator) -> Ledger:
    """Put ``coordinator`` where the checkpoint left it and return the ledger; UserError if it is damaged."""
    with checkpoint.in_use():
        return _restored(checkpoint, coordinator)


def _restored(checkpoint: Checkpoint, coordinator: Coordinator) -> Ledger:
    facts, tensors = checkpoint.facts, checkpoint.tensors
    snapshots: dict[int, dict[str, Tensor]] = {version: {} for version in facts["snapshots"]}
    scores: dict[int, dict[int, dict[str, np.ndarray]]] = {}
    velocity: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        part, _, rest = key.partition("/")
        if part == "velocity":
            velocity[rest] = tensor
        elif part == "version":
            number, _, name = rest.partition("/")
            snapshots[int(number)][name] = tensor
        else:
            owner, block, group = rest.split("/")
            scores.setdefault(int(owner), {}).setdefault(int(block), {})[group] = tensor.numpy()
    coordinator.restore(int(facts["version"]), snapshots, velocity)
    if coordinator.bound:
        coordinator.bound.norms.extend(map(float, facts.get("norms", ())))
    for client in map(int, facts["records"]):  # all others have done nothing yet
        if client not in coordinator.records:  # a real board that is not there now
            continue
        record, known = coordinator.records[client], facts["records"][str(client)]
        for name in COUNTERS:
            setattr(record, name, known[name])
        record.kept = frozenset(known.get("kept", ()))
        coordinator.learn(client, Budget.from_json(known["budget"]))
        blocks = scores.get(client, {})
        record.scores = tuple(blocks[b] for b in sorted(blocks)) or None
        coordinator.put_away(client)
    for dispatch in checkpoint.in_flight:
        facts["records"][str(dispatch.task.client)]  # it has been sent a task
    return Ledger(**facts["ledger"])


def _tensors(coordinator: Coordinator) -> dict[str, Tensor]:
    tensors = {f"velocity/{name}": tensor for name, tensor in coordinator.velocity.items()}
    for version, model in coordinator.snapshots.items():
        tensors |= {f"version/{version}/{name}": tensor for name, tensor in model.items()}
    for client, known in coordinator.records.scores():
        for b, block in enumerate(known):
            tensors |= {f"scores/{client}/{b}/{group}": torch.from_numpy(values) for group, values in block.items()}
    return {key: tensor.clone().contiguous() for key, tensor in tensors.items()}  # safetensors refuses shared memory
