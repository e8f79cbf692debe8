"""What an experiment's boards hold, move and take with the whole word table, own words, frozen parts and adapters.

    python benchmarks/frozen_and_words.py [experiments/text_quickstart.yaml] [--data-dir DATA] [--client 0]

Nothing is trained: the figures are those of ``cosp plan``, which tests hold against torch's own account. ``first`` are
the bytes of a client's first download, ``again`` those of every later one; needs the extras text and models-test.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from cosp.config import load_config
from cosp.experiment import load_experiment
from cosp.planning.plan import plan_rows

MEMORY = "assignment.rule=memory"
VARIANTS = {
    "whole table": (),
    "whole table, frozen": ("training.frozen=[words]",),
    "own words": ("model.vocabulary=own",),
    "own words, frozen": ("model.vocabulary=frozen",),
    "own words, inputs frozen": ("model.vocabulary=own", "training.frozen=[inputs]"),
    "own words, 1 block frozen": ("model.vocabulary=own", "training.frozen=[{blocks: 1}]"),
    "own words, 3 frozen, memory": (
        "model.vocabulary=own", "training.frozen=[{blocks: 3}]", "assignment.rule=memory_share",
    ),
    "own words, adapters": ("model.vocabulary=own", "model.adapters={rank: 8}", "method={name: fedavg-lora}", MEMORY),
    "own words, adapters, narrow": (
        "model.vocabulary=own", "model.adapters={rank: 8}", "training.frozen=[trunk]",
    ),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", type=Path, default=Path("experiments/text_quickstart.yaml"))
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--client", type=int, default=0)
    given = parser.parse_args()
    print(f"client {given.client} of {given.config}")
    print(f"{'':28} {'parameters':>10} {'blocks':>12} {'memory':>8} {'first':>8} {'again':>8} {'up':>8} {'task':>7}")
    for name, changes in VARIANTS.items():
        experiment = load_experiment(load_config(given.config, changes), data_dir=given.data_dir)
        row = plan_rows(experiment)[given.client]
        blocks = f"{row['depth']} x {row['heads']}/{row['hidden']}"
        sizes = (f"{row[key] / 1e6:7.2f}M" for key in ("memory_bytes", "bytes_down_first", "bytes_down", "bytes_up"))
        print(f"{name:28} {row['parameters'] / 1e6:9.2f}M {blocks:>12} {' '.join(sizes)} {row['task_s']:6.1f}s")


if __name__ == "__main__":
    main()
