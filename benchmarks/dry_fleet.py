"""How the time of a dry run grows with the fleet: the same tasks by 1,000 boards and by 10,000.

Both fleets are drawn from the mix of ``mixed10000``, with 1,000 boards at work at a time and the same number of
versions, so a task of the larger fleet may cost no more than one of the smaller. Beside them stands what no simulator
can do without: a heap of as many events, in plain Python. Prints tasks per second of processor time and the ratios.

    python benchmarks/dry_fleet.py [--versions 20]
"""

from __future__ import annotations

import argparse
import heapq
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from cosp.config import load_config
from cosp.experiment import load_experiment
from cosp.fleet._files import devices_folder
from cosp.forms import load_yaml
from cosp.run.directory import RunDirectory
from cosp.simulation.simulate import simulate

CONFIG = Path(__file__).parents[1] / "experiments/dry_10k.yaml"
EVENTS = 5  # of a task: two latencies, two transfers, computing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--versions", type=int, default=20)
    versions = parser.parse_args().versions
    per_task_s = {}
    for boards in (1_000, 10_000):
        tasks, spent_s = dry_run(boards, versions)
        per_task_s[boards] = spent_s / tasks
        print(f"{boards:6,} boards: {tasks:7,} tasks, {tasks / spent_s:9,.0f} tasks/s, set-up included")
    heap_s = spent(lambda: plain_heap(EVENTS * tasks)) / tasks
    print(f"  a heap alone: {1 / heap_s:9,.0f} tasks/s")
    print(f"a task of 10,000 boards costs {per_task_s[10_000] / per_task_s[1_000]:.2f} x one of 1,000,")
    print(f"                          and {per_task_s[10_000] / heap_s:.0f} x its events on a plain heap")


def dry_run(boards: int, versions: int) -> tuple[int, float]:
    """Return how many tasks came back, and the processor seconds of the whole run."""
    fleet = load_yaml(devices_folder() / "fleets/mixed10000.yaml")
    fleet["generate"]["count"] = boards
    config = load_config(CONFIG, [f"server.versions={versions}"]).model_copy(update={"fleet": fleet})

    with tempfile.TemporaryDirectory() as folder:
        rows: list[str] = []
        directory = RunDirectory.create(Path(folder) / "run", config)
        seconds = spent(
            lambda: simulate(
                load_experiment(config), directory, workers=1, dry=True, on_row=lambda row: rows.append(row["kind"])
            )
        )
    return rows.count("arrival"), seconds


def plain_heap(events: int) -> None:
    """Take the earliest of 1,000 events and put another in its place, again and again."""
    rng = random.Random(0)
    due = [(rng.random(), i) for i in range(1_000)]
    heapq.heapify(due)
    for ticket in range(events):
        now_s, _ = due[0]
        heapq.heapreplace(due, (now_s + rng.random(), ticket))


def spent(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


if __name__ == "__main__":
    main()
