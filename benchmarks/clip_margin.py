"""How near honest updates come to the norm bound: shipped experiments, run as they are, with the bound looking on.

The bound takes note of every update and scales none, so the run is the one without a bound. Prints, for each line:
updates that were merged, the largest norm as a multiple of the median of those before it (from the sixth on), the
largest of the first five as a share of the weights that it changes, and how many updates the default bound (factor 8)
would have changed. Where that is 0 a run with ``merge.clip: {factor: 8}`` merges the very same tensors, and writes the
same rows. Exit code 1 if any would have been changed; the last column is the factor that would have been loss-free.

    python benchmarks/clip_margin.py [CONFIG ...] [--variants NAME,...] [--set KEY=VALUE ...] [--data-dir DATA]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cosp.config import BASE, load_config
from cosp.experiment import load_experiment
from cosp.merge.clipping import FEWEST, Clip, NormBound
from cosp.run.directory import RunDirectory
from cosp.server import coordinator
from cosp.simulation.simulate import simulate

SHIPPED = ("experiments/quickstart.yaml", "experiments/tables/digits.yaml")
"""Those whose data come with a package."""


@dataclass
class Margin:
    """What honest updates came to."""

    updates: int = 0
    of_median: float = 0.0
    of_weights: float = 0.0
    changed: int = 0


def watching(margin: Margin) -> type[NormBound]:
    """Return a bound that scales nothing and says so to ``margin``."""

    class Watching(NormBound):
        def scale_of(self, norm: float, weights_norm: Callable[[], float]) -> float:
            margin.updates += 1
            margin.changed += super().scale_of(norm, weights_norm) < 1
            median = statistics.median(self.norms) if len(self.norms) >= FEWEST else 0.0
            if median:
                margin.of_median = max(margin.of_median, norm / median)
            else:
                margin.of_weights = max(margin.of_weights, norm / weights_norm())
            return 1.0

    return Watching


def margin_of(path: Path, overrides: list[str], data_dir: Path | None) -> Margin:
    margin = Margin()
    coordinator.NormBound = watching(margin)  # type: ignore[misc]
    config = load_config(path, [*overrides, f"method.merge.clip={{factor: {Clip().factor}}}"])
    with tempfile.TemporaryDirectory() as folder:
        directory = RunDirectory.create(Path(folder) / "run", config)
        simulate(load_experiment(config, data_dir=data_dir), directory, workers=0, engine="inline")
    return margin


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="*", type=Path, default=[Path(name) for name in SHIPPED])
    parser.add_argument("--variants", default=BASE, help="of each file, or base")
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    parser.add_argument("--data-dir", type=Path)
    asked = parser.parse_args()
    print("| experiment | updates | largest / median | largest of the first five / weights | changed | loss-free |")
    print("|---|---|---|---|---|---|")
    lossy = False
    for path in asked.configs:
        for variant in asked.variants.split(","):
            chosen = [] if variant == BASE else [f"variant={variant}"]
            margin = margin_of(path, [*chosen, *asked.overrides], asked.data_dir)
            free = max(1.01, margin.of_median)
            print(
                f"| {path.stem} {variant} | {margin.updates} | {margin.of_median:.2f} | {margin.of_weights:.2f} "
                f"| {margin.changed} | {free:.2f} |",
                flush=True,
            )
            lossy |= margin.changed > 0
    return int(lossy)


if __name__ == "__main__":
    sys.exit(main())
