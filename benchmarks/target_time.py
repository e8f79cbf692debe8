"""How well rule ``time`` keeps its target: real rounds of a dry fleet against ``target_round_s``.

The rule sizes submodels by the priced training task of a board that has the network to itself. Here the same fleet runs
with what that leaves out: jitter of the compute time, and a server's link that all transfers share. Counted are the
training tasks of the boards that the target holds back; the others need less anyway.

    python benchmarks/target_time.py [CONFIG] [--target-s 0.06] [--link-mbit-s 940] [--versions 60]

Prints a Markdown table of training tasks: their number, their time over the target (median, nine in ten within, worst),
and how many took longer than it; beside them the scoring tasks, which the target does not know: their median time over
the target, and their share of the time that these boards are at work.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

from cosp.config import Config, load_config
from cosp.experiment import load_experiment
from cosp.fleet._files import devices_folder
from cosp.forms import load_yaml
from cosp.planning.plan import plan_rows
from cosp.run.directory import RunDirectory
from cosp.simulation.simulate import simulate

CONFIG = Path(__file__).parents[1] / "experiments/quickstart.yaml"
JITTERS = (0.0, 0.05, 0.1)
HEAD = ("link", "jitter", "tasks", "median", "90 %", "worst", "over target", "scoring: median", "of the work")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", type=Path, default=CONFIG, metavar="CONFIG")
    parser.add_argument("--target-s", type=float, default=0.06)
    parser.add_argument("--link-mbit-s", type=float, default=940.0)
    parser.add_argument("--versions", type=int, default=60)
    given = parser.parse_args()
    shared = {"send_mbit_s": given.link_mbit_s, "receive_mbit_s": given.link_mbit_s}
    for row in (HEAD, ["---"] * len(HEAD)):
        print("| " + " | ".join(row) + " |")
    for link, server in (("own", {}), (f"{given.link_mbit_s:g} Mbit/s", shared)):
        for jitter in JITTERS:
            config = configured(given.config, given.target_s, given.versions, jitter, server)
            print("| " + " | ".join([link, f"{jitter:g}", *figures(config, given.target_s)]) + " |", flush=True)


def configured(path: Path, target_s: float, versions: int, jitter: float, server: dict[str, float]) -> Config:
    """Return the experiment under rule time, with the server's link as told."""
    rule = f"assignment={{rule: time, target_round_s: {target_s}}}"
    config = load_config(path, [rule, f"jitter={jitter}", f"server.versions={versions}"])
    fleet = config.fleet
    if isinstance(fleet, str):
        fleet = load_yaml(devices_folder() / "fleets" / f"{fleet}.yaml")
    return config.model_copy(update={"fleet": {**fleet, "server": server}})


def figures(config: Config, target_s: float) -> list[str]:
    """Run the fleet dry and return a line of the table."""
    experiment = load_experiment(config)
    held_back = {row["client"] for row in plan_rows(experiment) if "time" in row["binding"]}
    if not held_back:
        raise SystemExit(f"no board of this fleet is held back by {target_s:g} s: take a shorter --target-s")
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        simulate(experiment, RunDirectory.create(Path(folder) / "run", config), workers=1, dry=True, on_row=rows.append)
    spent: dict[str, list[float]] = {"train": [], "score": []}
    for row in rows:
        if row["kind"] == "arrival" and row["client"] in held_back:
            spent[row["task"]].append((row["arrived_s"] - row["sent_s"]) / target_s)
    trained, scored = sorted(spent["train"]), spent["score"]
    over = sum(share > 1 for share in trained) / len(trained)
    return [
        str(len(trained)),
        f"{statistics.median(trained):.3f}",
        f"{statistics.quantiles(trained, n=10)[-1]:.3f}",
        f"{trained[-1]:.3f}",
        f"{over:.0%}",
        f"{statistics.median(scored):.2f}" if scored else "-",
        f"{sum(scored) / (sum(scored) + sum(trained)):.0%}",
    ]


if __name__ == "__main__":
    main()
