"""The streaming merge against the obvious one: full-size masks, weighted and summed.

Both merge the same 16 updates of a ViT (width 192, 6 blocks) at keep ratio 1/4. Prints milliseconds a round (median)
and the ratio, paired run by run, and checks that both give the same model.

    python benchmarks/merge.py [--repeats 15]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from cosp.merge.aggregation import Merged, OpenRound
from cosp.models.vit import ViTShape
from cosp.submodel.budget import shape_for_rate
from cosp.submodel.plan import SubmodelPlan
from cosp.submodel.selection import choose_plan, random
from cosp.submodel.shape import layout_of
from cosp.submodel.slicing import State, extract, scatter

SHAPE = ViTShape(32, 4, 3, 10, 192, 6, 6, 768, (1, 3, 4, 6))
LAYOUT = layout_of(SHAPE)
ARRIVALS = 16

Update = tuple[SubmodelPlan, State, float]


def updates() -> list[Update]:
    shape = shape_for_rate(SHAPE, 0.25)
    generator = torch.Generator().manual_seed(0)
    model = {name: torch.randn(entry.shape, generator=generator) for name, entry in LAYOUT.items()}
    found = []
    for client in range(ARRIVALS):
        plan = choose_plan(SHAPE, shape, random, scores=None, seed=0, client=client, turn=0)
        found.append((plan, extract(model, LAYOUT, plan), 1.0 + client))
    return found


def streaming(arrivals: list[Update]) -> State:
    open_round = OpenRound(LAYOUT, SHAPE.sizes)
    for plan, delta, weight in arrivals:
        open_round.fold(plan, delta, weight)
    merged: Merged = open_round.close()
    return merged.delta


def with_full_masks(arrivals: list[Update]) -> State:
    nothing = {name: torch.zeros(entry.shape) for name, entry in LAYOUT.items()}
    total, weights = dict(nothing), dict(nothing)
    for plan, delta, weight in arrivals:
        ones = {name: torch.ones_like(tensor) for name, tensor in delta.items()}
        values, mask = scatter(delta, LAYOUT, plan, nothing), scatter(ones, LAYOUT, plan, nothing)
        for name in LAYOUT:
            total[name] = total[name] + weight * values[name]
            weights[name] = weights[name] + weight * mask[name]
    return {name: total[name] / torch.where(weights[name] > 0, weights[name], 1.0) for name in LAYOUT}


def timed_ms(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    arrivals = updates()
    ours, theirs = streaming(arrivals), with_full_masks(arrivals)
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-4, atol=1e-5)
    pairs = [
        (timed_ms(lambda: streaming(arrivals)), timed_ms(lambda: with_full_masks(arrivals))) for _ in range(repeats)
    ]
    print(f"merge of {ARRIVALS} updates, ViT width {SHAPE.dim}, {SHAPE.blocks} blocks, keep 1/4, median of {repeats}")
    print(f"  full masks  {statistics.median(b for _, b in pairs):8.1f} ms")
    print(f"  streaming   {statistics.median(a for a, _ in pairs):8.1f} ms")
    print(f"  ratio       {statistics.median(b / a for a, b in pairs):8.2f} x faster")


if __name__ == "__main__":
    main()
