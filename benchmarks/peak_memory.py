"""Predicted peak memory of training, scoring and evaluation against torch's allocator and against the process itself.

Each case runs alone in a fresh process, three times. *Allocated* is the most that torch's CPU allocator had handed out.
*Resident* is how much the resident set grew at most beyond what it was with torch warm (a step of a tiny model) and the
data in place, with a C library that gives large blocks back at once (MALLOC_MMAP_THRESHOLD_=131072). *Default* is the
same with glibc as it is, which keeps freed blocks for later. Models are large enough for the resident set to show them.

    python benchmarks/peak_memory.py [--quick]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from cosp.models.flat import FlatModel
from cosp.models.vit import ViTShape
from cosp.submodel.footprint import footprint
from cosp.submodel.plan import prefix_plan
from cosp.task.training import TrainSettings
from cosp.trainer.importance import taylor_scores
from cosp.trainer.samples import Samples
from cosp.trainer.trainer import count_predictions
from cosp.trainer.training import train
from cosp.transfer import TransferSettings

SMALL = ViTShape(image=32, patch=4, channels=3, classes=10, dim=192, blocks=6, heads=6, hidden=768, exits=(2, 4, 6))
WIDE = ViTShape(image=64, patch=8, channels=3, classes=100, dim=512, blocks=8, heads=8, hidden=2048, exits=(2, 4, 6, 8))
TINY = ViTShape(image=4, patch=2, channels=1, classes=2, dim=4, blocks=1, heads=1, hidden=4, exits=(1,))
SHAPES = {"192": SMALL, "512": WIDE}

CASES = [
    (phase, name, width, depth, batch, optimizer)
    for name, shape in SHAPES.items()
    for width, depth, batch in ((1.0, shape.blocks, 4), (1.0, shape.blocks, 32), (0.5, shape.exits[1], 16))
    for phase, optimizer in (("train", "adamw"), ("train", "sgd"), ("score", ""), ("evaluate", ""))
    if phase != "score" or width == 1.0
]


def data(shape: ViTShape, count: int) -> Samples:
    x = np.ones((count, shape.channels, shape.image, shape.image), dtype=np.float32)
    return Samples(x, np.zeros(count, dtype=np.int64))


def work(shape: ViTShape, phase: str, width: float, depth: int, batch: int, optimizer: str) -> Callable[[], object]:
    """Return a task as the trainer does it, on weights received, without its start."""
    plan = prefix_plan(shape.sizes.scaled(width), depth)
    samples, length = data(shape, 3 * batch), footprint(shape, plan.counts).parameters

    def run() -> None:
        received = torch.zeros(length)
        model = FlatModel(shape, plan, torch.device("cpu"), trains=phase == "train")
        model.load(received)
        if phase == "train":
            settings = TrainSettings(epochs=1, batch_size=batch, optimizer=optimizer)
            transfer, rng = TransferSettings(), np.random.default_rng(0)
            train(model, samples, settings=settings, transfer=transfer, version=0, rng=rng)
            return
        x, y = torch.from_numpy(samples.x[:batch]), torch.from_numpy(samples.y[:batch])
        if phase == "score":
            taylor_scores(model.module, [(x, y), (x, y)])
        else:
            count_predictions(model, Samples(samples.x, samples.y), batch)

    return run


def allocated_bytes(run: Callable[[], object]) -> int:
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        run()
    events = profiled.profiler.kineto_results.events()
    live = peak = 0
    for _, change in sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]"):
        live += change
        peak = max(peak, live)
    return peak


def resident_bytes(run: Callable[[], object]) -> int:
    """Return the growth of the peak resident set; Linux counts it in KiB."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run()
    return 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)


def alone(case: list[object], how: str) -> int:
    """Measure one case in a process of its own."""
    settings = {"MALLOC_MMAP_THRESHOLD_": "131072"} if how == "resident" else {}
    command = [sys.executable, __file__, "--case", json.dumps(case), "--how", how]
    done = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the smaller model only")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--how", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.case:
        phase, name, *rest = json.loads(arguments.case)
        for warm in ("train", "score", "evaluate"):
            work(TINY, warm, 1.0, 1, 2, "adamw")()
        run = work(SHAPES[name], phase, *rest)
        print(allocated_bytes(run) if arguments.how == "allocated" else resident_bytes(run))
        return
    errors: dict[str, list[float]] = {"allocated": [], "resident": [], "default": []}
    heads = "".join(f"{how:>11} {'error':>7}" for how in errors)
    print(f"{'dim':>4} {'width':>5} {'blocks':>6} {'batch':>5} {'step':12} {'predicted':>10}{heads}")
    for case in CASES:
        phase, name, width, depth, batch, optimizer = case
        if arguments.quick and name != "192":
            continue
        shape = SHAPES[name]
        size = footprint(shape, prefix_plan(shape.sizes.scaled(width), depth).counts)
        predicted = {
            "train": lambda size=size, batch=batch, optimizer=optimizer: size.training_bytes(batch, optimizer),
            "score": lambda size=size, batch=batch: size.scoring_bytes(batch),
            "evaluate": lambda size=size, batch=batch: size.evaluation_bytes(batch),
        }[phase]()
        line = f"{shape.dim:4} {width:5g} {depth:6} {batch:5} {f'{phase} {optimizer}':12} {predicted / 1e6:7.1f} MB"
        for how, off in errors.items():
            measured = alone(list(case), how)
            off.append(predicted / measured - 1)
            line += f" {measured / 1e6:7.1f} MB {off[-1]:+7.1%}"
        print(line, flush=True)
    for how, off in errors.items():
        sizes = [abs(one) for one in off]
        print(f"against {how}: median error {statistics.median(sizes):.1%}, worst {max(sizes):.1%} of {len(sizes)}")


if __name__ == "__main__":
    main()
