"""A weight change in whole numbers against a plain copy of it: rounding in place, packing, unpacking.

The change is that of a ViT-B. Prints CPU milliseconds (median), and how many copies that are, paired run by run.
What tasks with it take of a process's memory is held by ``tests/trainer/test_resident.py``.

    python benchmarks/rounding.py [--repeats 9]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from cosp.models.vit import ViTShape
from cosp.submodel.flat import length, spans_of
from cosp.submodel.shape import layout_of
from cosp.task.compression import pack, rounded_, unpack

VIT_B = ViTShape(224, 16, 3, 300, 768, 12, 12, 3072, (3, 6, 9, 12))


def cpu_ms(call: Callable[[], object]) -> float:
    started = time.process_time()
    call()
    return (time.process_time() - started) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    spans = spans_of(layout_of(VIT_B), VIT_B.full_plan().counts)
    change = torch.randn(length(spans), generator=torch.Generator().manual_seed(0))
    packed = pack(change, spans)
    into = torch.empty_like(change)
    ways = {
        "round in place": lambda: rounded_(change, spans),
        "pack": lambda: pack(change, spans),
        "unpack": lambda: unpack(packed, spans),
    }
    print(f"{len(change) / 1e6:.1f} million parameters, median of {repeats}")
    for name, way in ways.items():
        pairs = [(cpu_ms(way), cpu_ms(lambda: into.copy_(change))) for _ in range(repeats)]
        ms, copies = statistics.median(a for a, _ in pairs), statistics.median(a / b for a, b in pairs)
        print(f"  {name:<15} {ms:8.1f} ms {copies:6.1f} copies")


if __name__ == "__main__":
    main()
