"""Measures the loop after deployment: lines of adaptation.yaml on trained runs, paired by seed, and writes the page.

    python benchmarks/adaptation.py measure SET:RUN [SET:RUN ...] [--stream STREAM] [--seeds 0,1,2] [--only LINES]
                                                                  [--until HH:MM]
    python benchmarks/adaptation.py severities SET:RUN [...]
    python benchmarks/adaptation.py page

SET is the name of a data set, RUN a trained run of it; seeds are the stream's. ``measure`` goes on where it stopped: a
cell that is in the results is not measured again. ``page`` writes docs/results/adaptation.md from them.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from adaptation_page import page

from cosp.adaptation.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from cosp.run.directory import RunDirectory
from cosp.seeds import numpy_stream
from cosp.stream.deployed import Deployed, open_deployed
from cosp.stream.read import read_stream
from cosp.stream.samples import from_unit, to_unit
from cosp.stream.settings import AdaptConfig, Rounds, load_adapt
from cosp.stream.simulate import simulate

ROOT = Path(__file__).resolve().parents[1]
SPEC = ROOT / "benchmarks" / "adaptation.yaml"
RESULTS = ROOT / "experiments" / "results" / "adaptation"
PAGE = ROOT / "docs" / "results" / "adaptation.md"
DATA = Path("../shared/data")
MOST = 400  # test samples whose accuracy under each corruption is shown

Cell = dict[str, Any]


def measure(
    sets: Sequence[str], stream: str, seeds: Sequence[int], only: Sequence[str], until: str | None, data_dir: Path
) -> None:
    """Measure what is not there yet, line by line over all runs, so that what is there is paired."""
    spec = yaml.safe_load(SPEC.read_text(encoding="utf-8"))
    done = {(cell["stream"], cell["data"], cell["seed"], cell["line"]) for cell in cells()}
    opened: dict[str, Deployed] = {}
    for line, given, seed in product(only or spec["streams"][stream]["lines"], sets, seeds):
        name, _, run = given.partition(":")
        if (stream, name, seed, line) in done:
            continue
        if until is not None and f"{datetime.now():%H:%M}" >= until:
            return
        if run not in opened:
            opened[run] = open_deployed(Path(run), data_dir=data_dir)
        cell = measured(spec, line, opened[run], stream=stream, name=name, seed=seed, data_dir=data_dir)
        _append(RESULTS / "cells.jsonl", cell)
        print(f"{name} {seed} {line}: {cell['stream_accuracy']:.3f}, {cell['cpu_s']:.0f} CPU s", flush=True)


def measured(
    spec: Mapping[str, Any], line: str, deployed: Deployed, *, stream: str, name: str, seed: int, data_dir: Path
) -> Cell:
    started = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        config = config_of(spec, line, deployed, stream=stream, name=name, seed=seed, folder=Path(folder))
        directory = RunDirectory.create(Path(folder) / "run", config)
        metrics = simulate(config, deployed, directory, workers=0, data_dir=data_dir)
        windows = read_stream(directory.folder).of("window")
    boards = metrics.pop("boards")
    worst = min((board for board in boards if board["samples"]), key=lambda board: board["accuracy"])
    by_window: dict[int, list[int]] = {}
    for row in windows:
        found = by_window.setdefault(row["window"], [0, 0])
        found[0] += row["right"]
        found[1] += row["samples"]
    drift = config.stream.drift
    clean_s = drift.clean_s if isinstance(drift, Rounds) else 0.0
    return {
        "stream": stream, "data": name, "seed": seed, "line": line, **metrics,
        "boards": len(boards), "worst_board": worst["client"],
        "clean_windows": int(clean_s / config.stream.window_s),
        "windows": [round(right / max(samples, 1), 5) for _, (right, samples) in sorted(by_window.items())],
        "cpu_s": time.process_time() - started,
    }  # fmt: skip


def config_of(
    spec: Mapping[str, Any], line: str, deployed: Deployed, *, stream: str, name: str, seed: int, folder: Path
) -> AdaptConfig:
    """Return the stream's configuration of a line, as ``cosp adapt`` would read it."""
    path = folder / "stream.yaml"
    base, variants = spec["streams"][stream]["base"], {line: spec["streams"][stream]["lines"][line]}
    own = {**base, "stream": {**base["stream"], **spec["data"].get(name, {})}}
    value = {**own, "variants": variants, "seed": seed, "model": {"pretrained": str(deployed.path)}}
    path.write_text(yaml.safe_dump(value), encoding="utf-8")
    return load_adapt(path, [f"variant={line}"])


@torch.no_grad()
def severities(sets: Sequence[str], data_dir: Path) -> None:
    """Write the accuracy of each run's whole model, by the exit that it chose, under each corruption."""
    for given in sets:
        name, _, run = given.partition(":")
        deployed = open_deployed(Path(run), data_dir=data_dir)
        reading, test = deployed.facts.reading, deployed.experiment.splits["test"]
        x, y = np.asarray(test.x[:MOST]), test.y[:MOST]
        right = partial(_right, deployed, y)
        found: Cell = {"data": name, "seed": deployed.facts.seed, "clean": right(x)}
        pixels = to_unit(x, reading).transpose(0, 2, 3, 1)
        for corruption in CORRUPTIONS:
            streams = [numpy_stream(deployed.facts.seed, "shown", corruption, severity) for severity in SEVERITIES]
            found[corruption] = [
                right(from_unit(corrupt(pixels, corruption, s, rng).transpose(0, 3, 1, 2), reading))
                for s, rng in zip(SEVERITIES, streams, strict=True)
            ]
        _append(RESULTS / "severities.jsonl", found)


def _right(deployed: Deployed, y: np.ndarray, x: np.ndarray) -> float:
    from cosp.predict.opened import open_model

    model = open_model(deployed.path)
    logits = model.answer(np.ascontiguousarray(x))[model.last_exit(None)]
    return float((logits.argmax(-1) == y).mean())


def cells() -> list[Cell]:
    return list(_lines(RESULTS / "cells.jsonl"))


def _lines(path: Path) -> Iterator[Cell]:
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            yield json.loads(line)


def _append(path: Path, value: Cell) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(value) + "\n")


def main(arguments: Sequence[str]) -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("measure", "severities", "page"))
    parser.add_argument("sets", nargs="*", metavar="SET:RUN")
    parser.add_argument("--stream", default="lasting")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--only", default="", help="lines, by comma")
    parser.add_argument("--until", help="begin no cell after that time of day, HH:MM")
    parser.add_argument("--data-dir", type=Path, default=DATA)
    given = parser.parse_args(arguments)
    if given.what == "measure":
        seeds = [int(seed) for seed in given.seeds.split(",")]
        only = [line for line in given.only.split(",") if line]
        measure(given.sets, given.stream, seeds, only, given.until, given.data_dir)
    elif given.what == "severities":
        severities(given.sets, given.data_dir)
    else:
        spec = yaml.safe_load(SPEC.read_text(encoding="utf-8"))
        PAGE.write_text(page(spec, cells(), list(_lines(RESULTS / "severities.jsonl"))), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
