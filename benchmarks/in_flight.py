"""Memory of the server's process with 4, 16 and 64 boards in flight, at the size of a ViT-B.

The server loop, its messages, cuts, merge and virtual grid are those of a run; in place of workers stands a pool that
gives back a share of the weights as the change. Boards keep 1, 1/2 and 1/4. Each fleet runs in a process of its own.
Prints, in models (347 MB each), how many versions were in use at most, and what the process held at most beside those
in use at that moment and what it held before it had a model; then the largest of these over the smallest.

    python benchmarks/in_flight.py [--boards 4 16 64] [--versions 1]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cosp.config import load_config
from cosp.experiment import load_experiment
from cosp.run.directory import RunDirectory
from cosp.run.pool import Source
from cosp.run.serve import serve
from cosp.server.coordinator import Coordinator
from cosp.simulation.virtual_grid import VirtualGrid
from cosp.submodel.layout import parameter_count
from cosp.submodel.shape import layout_of
from cosp.task.task import Task

CONFIG = """
name: in-flight
data: {name: digits, partition: {kind: iid}}
fleet:
  boards:
    - {count: %d, device: jetson-orin-nano-8, link: ethernet, keep: 1.0}
    - {count: %d, device: jetson-orin-nano-8, link: ethernet, keep: 0.5}
    - {count: %d, device: jetson-orin-nano-8, link: wifi, keep: 0.25}
model: {patch: 4, dim: 768, blocks: 12, heads: 12, hidden: 3072, exits: [3, 6, 9, 12]}
method: {name: co-s2p, units: random}
training: {epochs: 1, batch_size: 64}
server: {versions: %d, quorum: 1.0, checkpoint_every: 1000}
"""


class NobodyTrains:
    """A ``Pool`` whose tasks change nothing but by a share of the weights, made when they are asked for."""

    def submit(
        self, task: Task, floats: int, fill: Callable[[Tensor], None], *, priority: float, source: Source = None
    ) -> tuple[Task, int, Callable[[Tensor], None]]:
        return task, floats, fill

    def result(self, job: tuple[Task, int, Callable[[Tensor], None]]) -> tuple[dict[str, Any], Tensor]:
        _, floats, fill = job
        vector = torch.empty(floats)
        fill(vector)
        facts = {"samples": 1, "loss": 1.0, "local_accuracy_received": 0.1, "local_accuracy_trained": 0.1}
        return facts, vector.mul_(2**-10)

    def cancel(self, job: Any) -> None:
        pass


def resident_bytes(key: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(key))


def alone(boards: int, versions: int) -> dict[str, float]:
    """Run a fleet and return the most versions in use, and the most that was held beside those in use, in models."""
    torch.set_num_threads(1)
    rests, in_use = [0.0], [1]
    take, close = Coordinator.take_update, Coordinator.close_round

    def watched(call: Callable[..., Any], more: int) -> Callable[..., Any]:
        """Return ``call``, noting what is held while it runs beside the versions in use and ``more`` that it makes."""

        def watching(self: Coordinator, *arguments: Any) -> Any:
            in_use.append(len(self.snapshots) + more)
            found = call(self, *arguments)
            rests.append(resident_bytes("VmHWM:") - before - in_use[-1] * model)
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
            return found

        return watching

    Coordinator.take_update = watched(take, 0)  # type: ignore[method-assign]
    Coordinator.close_round = watched(close, 1)  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "config.yaml"
        file.write_text(CONFIG % (boards // 4, boards // 4, boards - 2 * (boards // 4), versions))
        experiment = load_experiment(load_config(file))
        grid = VirtualGrid(experiment.fleet, experiment.introductions, NobodyTrains(), sigma=0.0)
        shape = experiment.shape
        model = 4 * parameter_count(layout_of(shape), (shape.sizes,) * shape.blocks)
        before = resident_bytes("VmRSS:")
        serve(grid, experiment, RunDirectory.create(Path(folder) / "run", experiment.config), evaluate_with=None)
    return {"rest": max(rests) / model, "versions": max(in_use)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--boards", type=int, nargs="+", default=[4, 16, 64])
    parser.add_argument("--versions", type=int, default=1)
    parser.add_argument("--alone", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.alone:
        print(json.dumps(alone(given.alone, given.versions)))
        return
    print(f"{'in flight':>9} {'versions in use':>16} {'beside them':>12}   in models, at most")
    rests = []
    for boards in given.boards:
        command = [sys.executable, __file__, "--alone", str(boards), "--versions", str(given.versions)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        rests.append(found["rest"])
        print(f"{boards:9} {found['versions']:16} {rests[-1]:12.2f}", flush=True)
    print(f"largest over smallest: {max(rests) / min(rests):.2f}")


if __name__ == "__main__":
    main()
