"""What a dry run costs as the fleet grows from 1,000 boards to 1,000,000: seconds and bytes a board, and an event.

Fleets are drawn from the mix of ``mixed10000``. All do the same number of tasks by as many boards at a time
(``--at-work``, 1,000; with 10,000 or more boards enrolled also 10,000), so that an event of the largest may cost no
more than one of the smallest. An event is one of the five of a task: two latencies, two transfers, computing. Each
fleet is a process of its own; seconds are of the processor, bytes what the process has grown by. Beside them stands
what no simulator can do without: a heap of as many events, in plain Python.

    python benchmarks/dry_fleet.py [--boards 1000 10000 100000 1000000] [--versions 20] [--at-work 1000]
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

CONFIG = Path(__file__).parents[1] / "experiments/dry_10k.yaml"
EVENTS = 5  # of a task


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--boards", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--versions", type=int, default=20)
    parser.add_argument("--at-work", type=int, default=1_000)
    parser.add_argument("--method", default="co-s2p", help="fedavg keeps nothing of a client")
    parser.add_argument("--one", type=int, help="what a fleet of so many boards cost, as JSON")
    given = parser.parse_args()
    if given.one is not None:
        print(json.dumps(cost(given.one, given.versions, given.at_work, given.method)))
        return
    print(f"{'boards':>10} {'start s':>8} {'us a board':>10} {'bytes a board':>13} {'tasks':>7} {'us an event':>11} "
          f"{'bytes an event':>14} {'peak MB':>8}")  # fmt: skip
    found = [fresh(boards, given) for boards in given.boards]
    heap_us = 1e6 * spent(lambda: plain_heap(EVENTS * 10_000, given.at_work)) / (EVENTS * 10_000)
    events_us = [one["events_us"] for one in found]
    print(f"an event of the largest fleet costs {events_us[-1] / events_us[0]:.2f} x one of the smallest, "
          f"and {events_us[-1] / heap_us:.0f} x one on a plain heap")  # fmt: skip


def fresh(boards: int, given: argparse.Namespace) -> dict[str, float]:
    """Return what a fleet costs in a process of its own, and print it."""
    options = [f"--versions={given.versions}", f"--at-work={given.at_work}", f"--method={given.method}"]
    told = subprocess.run(
        [sys.executable, __file__, f"--one={boards}", *options], check=True, capture_output=True, text=True
    )
    one: dict[str, float] = json.loads(told.stdout.splitlines()[-1])
    print(f"{boards:10,} {one['start_s']:8.2f} {1e6 * one['start_s'] / boards:10.1f} "
          f"{one['start_bytes'] / boards:13.0f} {one['tasks']:7,.0f} {one['events_us']:11.1f} "
          f"{one['events_bytes']:14.0f} {one['peak_bytes'] / 1e6:8.0f}", flush=True)  # fmt: skip
    return one


def cost(boards: int, versions: int, at_work: int, method: str) -> dict[str, float]:
    """Return what loading and starting a fleet takes until its first task is sent, and what its events take."""
    from cosp.config import load_config
    from cosp.experiment import load_experiment
    from cosp.fleet._files import devices_folder
    from cosp.forms import load_yaml
    from cosp.run.directory import RunDirectory
    from cosp.simulation.simulate import simulate

    process, marks, tasks = psutil.Process(), list[tuple[float, int]](), 0

    def mark() -> None:
        marks.append((time.process_time(), process.memory_info().rss))

    def on_row(row: dict[str, object]) -> None:
        nonlocal tasks
        tasks += row["kind"] == "arrival"
        if row["kind"] == "round" and row["version"] == 0:
            mark()

    fleet = load_yaml(devices_folder() / "fleets/mixed10000.yaml")
    fleet["generate"]["count"] = boards
    sets = [f"server.versions={versions}", f"server.concurrency={at_work}", f"server.quorum={max(1, at_work // 4)}"]
    config = load_config(CONFIG, [*sets, f"method={{name: {method}}}"]).model_copy(update={"fleet": fleet})
    with tempfile.TemporaryDirectory() as folder:
        mark()
        simulate(
            load_experiment(config),
            RunDirectory.create(Path(folder) / "run", config),
            workers=1,
            dry=True,
            on_row=on_row,
        )
        mark()
    (began_s, began_bytes), (ready_s, ready_bytes), (ended_s, ended_bytes) = marks
    return {
        "start_s": ready_s - began_s,
        "start_bytes": ready_bytes - began_bytes,
        "tasks": tasks,
        "events_us": 1e6 * (ended_s - ready_s) / (EVENTS * tasks),
        "events_bytes": (ended_bytes - ready_bytes) / (EVENTS * tasks),
        "peak_bytes": process.memory_info().rss if sys.platform != "linux" else peak_bytes(),
    }


def peak_bytes() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def plain_heap(events: int, at_a_time: int) -> None:
    """Take the earliest event and put another in its place, again and again."""
    rng = random.Random(0)
    due = [(rng.random(), i) for i in range(at_a_time)]
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
