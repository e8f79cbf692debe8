"""The streaming merge against the obvious one (full-size masks, weighted and summed), and against plain copying.

First both merge the same 16 updates of a ViT (width 192, 6 blocks) at keep ratio 1/4: CPU milliseconds a round
(median), the ratio paired run by run; it checks that both give the same model.

Then single updates of a ViT-B are folded: nested ones, whose kept units are one run, and ones whose units are drawn at
random. Prints update bytes a second, as a share of what ``copy_`` does with the same bytes in the same run (1: as fast
as a copy), of folding, of folding where numba is not installed, of the check that all is finite (which also gives the
squared length that folding needs), of indexing the whole grid, the obvious way, and of what memory allows: reading the
update, and reading and writing as many cache lines as it touches of the whole model, all of them in a row.

    python benchmarks/merge.py [--repeats 9]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from unittest import mock

import torch
import torch.nn.functional as F

from cosp.merge import compiled
from cosp.merge.aggregation import Merged, OpenRound, is_finite, squares_of
from cosp.models.vit import ViTShape
from cosp.submodel.budget import shape_for_rate
from cosp.submodel.flat import length, spans_of, views
from cosp.submodel.layout import Layout
from cosp.submodel.plan import SubmodelPlan, prefix_plan
from cosp.submodel.selection import choose_plan, random
from cosp.submodel.shape import layout_of
from cosp.submodel.slicing import State, extract, grid, kept_indices, scatter

SHAPE = ViTShape(32, 4, 3, 10, 192, 6, 6, 768, (1, 3, 4, 6))
LAYOUT = layout_of(SHAPE)
VIT_B = ViTShape(224, 16, 3, 300, 768, 12, 12, 3072, (3, 6, 9, 12))
ARRIVALS = 16
LINE = 16
"""Entries of a cache line of 64 bytes."""

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
    started = time.process_time()
    call()
    return (time.process_time() - started) * 1e3


def fold_without_numba(open_round: OpenRound, plan: SubmodelPlan, delta: State, squares: float) -> None:
    with mock.patch.object(compiled, "loops", return_value=None):
        open_round.fold(plan, delta, 0.3, squares=squares)


def by_grid(total: State, layout: Layout, plan: SubmodelPlan, delta: State) -> None:
    for name, change in delta.items():
        total[name][grid(kept_indices(layout[name], plan), layout[name].shape)] += 0.3 * change


def touched(layout: Layout, plan: SubmodelPlan) -> int:
    """Return how many entries lie in the cache lines of whole tensors to which an update of ``plan`` is added."""
    lines = 0
    for entry in layout.values():
        if entry.held(plan.depth):
            whole = torch.zeros(entry.shape, dtype=torch.bool)
            whole[grid(kept_indices(entry, plan), entry.shape)] = True
            lines += int(F.pad(whole.flatten(), (0, -whole.numel() % LINE)).view(-1, LINE).any(1).sum())
    return LINE * lines


def compare_with_copying(keep: float, how: str, repeats: int) -> None:
    shape, layout = shape_for_rate(VIT_B, keep), layout_of(VIT_B)
    plan = prefix_plan(shape.counts, shape.depth)
    if how == "random":
        plan = choose_plan(VIT_B, shape, random, scores=None, seed=0, client=0, turn=0)
    spans = spans_of(layout, plan.counts)
    vector, copy = torch.randn(length(spans)), torch.empty(length(spans))
    delta, open_round = views(vector, spans), OpenRound(layout, VIT_B.sizes)
    total = {name: torch.zeros(entry.shape) for name, entry in layout.items()}
    squares, lines = squares_of(delta), torch.zeros(touched(layout, plan))
    ways = {
        "fold": lambda: open_round.fold(plan, delta, 0.3, squares=squares),
        "no numba": lambda: fold_without_numba(open_round, plan, delta, squares),
        "check": lambda: is_finite(delta, squares_of(delta)),
        "by grid": lambda: by_grid(total, layout, plan, delta),
        "memory": lambda: (vector.sum(), lines.add_(1.0)),
    }
    open_round.fold(plan, delta, 0.3, squares=squares)
    copy.copy_(vector)
    shares: dict[str, list[float]] = {name: [] for name in ways}
    copies = []
    for _ in range(repeats):
        copies.append(timed_ms(lambda: copy.copy_(vector)))
        for name, way in ways.items():
            shares[name].append(copies[-1] / timed_ms(way))
    rate = 4 * len(vector) / 1e6 / statistics.median(copies)
    found = "".join(f" {statistics.median(share):9.2f}" for share in shares.values())
    print(f"  {keep:<5g} {how:<7} {4 * len(vector) / 1e6:7.1f} MB {rate:9.1f} GB/s{found}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
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
    print(f"folding one update of a ViT-B: bytes a second as a share of copy_'s, median of {repeats}")
    print(f"  keep  units     update       copy_{'fold':>12} {'no numba':>9} {'check':>9} {'by grid':>9} {'memory':>9}")
    for keep in (1.0, 0.5, 0.25):
        for how in ("nested", "random"):
            if keep < 1 or how == "nested":
                compare_with_copying(keep, how, repeats)


if __name__ == "__main__":
    main()
