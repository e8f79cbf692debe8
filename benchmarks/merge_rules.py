"""What each merge rule costs, beside the mean: folding a round's updates and closing it.

16 updates of a ViT (width 192, 6 blocks) whose boards keep a quarter to all of it, units drawn at random. CPU
milliseconds a round (median), the ratio to the mean paired turn by turn, and what a round keeps until it closes: the
mean one model, the others every update. ``clip`` is the mean with a norm bound.

    python benchmarks/merge_rules.py [--repeats 9] [--arrivals 16]
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch

from cosp.merge.aggregation import OpenRound
from cosp.merge.clipping import Clip, NormBound, norm_of
from cosp.merge.gathered import GatheredRound
from cosp.merge.robust import RULES, Robust
from cosp.models.vit import ViTShape
from cosp.submodel.budget import shape_for_rate
from cosp.submodel.plan import SubmodelPlan
from cosp.submodel.selection import choose_plan, random
from cosp.submodel.shape import layout_of
from cosp.submodel.slicing import State, extract

SHAPE = ViTShape(32, 4, 3, 10, 192, 6, 6, 768, (1, 3, 4, 6))
LAYOUT = layout_of(SHAPE)
KEEPS = (0.25, 0.5, 0.75, 1.0)

Update = tuple[SubmodelPlan, State, float]


def updates(arrivals: int) -> list[Update]:
    generator, found = torch.Generator().manual_seed(0), []
    for client in range(arrivals):
        shape = shape_for_rate(SHAPE, KEEPS[client % len(KEEPS)])
        plan = choose_plan(SHAPE, shape, random, scores=None, seed=0, client=client, turn=0)
        whole = {name: torch.randn(entry.shape, generator=generator) for name, entry in LAYOUT.items()}
        found.append((plan, extract(whole, LAYOUT, plan), 1.0 + client))
    return found


def merged(opened: OpenRound, arrivals: list[Update]) -> None:
    for plan, delta, weight in arrivals:
        opened.fold(plan, delta, weight)
    closed = opened.close()
    for name in closed.delta:
        closed.mass[name]


def robustly(rule: Robust, arrivals: list[Update]) -> None:
    merged(GatheredRound(LAYOUT, SHAPE.sizes, rule=rule), arrivals)


def clipped(arrivals: list[Update]) -> None:
    bound, opened = NormBound(Clip()), OpenRound(LAYOUT, SHAPE.sizes)
    for plan, delta, weight in arrivals:
        norm = norm_of(delta.values())
        bound.scale_of(norm, lambda: 2.0)
        bound.note(norm)
        opened.fold(plan, delta, weight)
    opened.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--arrivals", type=int, default=16)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    arrivals = updates(asked.arrivals)
    work: dict[str, Callable[[], None]] = {
        "mean": lambda: merged(OpenRound(LAYOUT, SHAPE.sizes), arrivals),
        "clip": lambda: clipped(arrivals),
    }
    for name, rule in RULES.items():
        work[name] = partial(robustly, rule(0.2), arrivals)
    spent: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(asked.repeats):
        for name, do in work.items():
            started = time.process_time()
            do()
            spent[name].append((time.process_time() - started) * 1e3)
    model = sum(4 * math.prod(entry.shape) for entry in LAYOUT.values())
    sent = sum(4 * part.numel() for _, delta, _ in arrivals for part in delta.values())
    print(f"merge of {asked.arrivals} updates of a ViT of {model / 4e6:.1f} M parameters, median of {asked.repeats}")
    print("| rule | ms a round | x the mean | kept until the round closes |")
    print("|---|---|---|---|")
    for name, times in spent.items():
        ratio = statistics.median(a / b for a, b in zip(times, spent["mean"], strict=True))
        kept = model if name in ("mean", "clip") else sent
        print(f"| {name} | {statistics.median(times):.0f} | {ratio:.1f} | {kept / 1e6:.0f} MB |")


if __name__ == "__main__":
    main()
