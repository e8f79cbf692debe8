"""Size and latency of every board's submodel against the whole model, exported to ONNX and to torch, on one thread.

Each board gets the submodel that `cosp plan` gives it, with random weights, which cost what trained ones do. All models
answer one sample in turn, --rounds times; counted is the CPU time of the thread, so that other work on the machine
weighs less, and the share is the median over rounds of a submodel's time over the whole model's in the same round.

    python benchmarks/submodel_latency.py [--rounds 15] [--only quickstart] [--out docs/results/submodels.md]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cosp.checkpoints.own import Facts, Reading
from cosp.config import load_config
from cosp.experiment import Experiment, load_experiment, single_thread
from cosp.export import onnx, program
from cosp.export.check import random_samples
from cosp.export.chosen import Chosen
from cosp.methods.clients import ClientRecord
from cosp.models.transformer import Transformer, initialise
from cosp.submodel.footprint import footprint
from cosp.submodel.plan import SubmodelPlan
from cosp.submodel.selection import random_scores

ROOT = Path(__file__).parents[1]
CASES: dict[str, tuple[str, tuple[str, ...]]] = {
    "quickstart": ("Quickstart: 4 blocks, width 64, images of 8 x 8", ()),
    "vit-s": (
        "ViT-S/16, as DeiT-S: 12 blocks, width 384, images of 224 x 224",
        (
            "data={name: declared, declared: {shape: [3, 224, 224], classes: 100, samples_per_client: 64}}",
            "model={patch: 16, dim: 384, blocks: 12, heads: 6, hidden: 1536, exits: [3, 6, 9, 12]}",
        ),
    ),
}
PASSES = 3
"""So many samples in a row of which the last two count: the first finds its weights out of the cache."""
HEAD = """| board | blocks x heads/hidden | parameters | MFLOPs | ONNX | torch.export | onnxruntime | torch |
|---|---|---|---|---|---|---|---|"""


INTRODUCTION = (
    "# Size and latency of every board's submodel",
    "",
    "Written by `python benchmarks/submodel_latency.py --out docs/results/submodels.md`. Boards of the fleet",
    "`paper16`, submodels as `cosp plan` gives them (Co-S²P), each with its deepest exit. Milliseconds are CPU time of",
    "one sample on one thread, the median of rounds in which all models answer in turn; shares are of the whole model,",
    "the median of each round's.",
    "",
)


@dataclass(frozen=True)
class Model:
    """One exported submodel, ready to answer a sample in either library."""

    name: str
    chosen: Chosen
    sizes: dict[str, int]
    ways: dict[str, Callable[[], object]]


def plans(experiment: Experiment) -> dict[str, SubmodelPlan]:
    """Return the submodel of each kind of board, by how many boards of which name hold it; boards alike once."""
    method = experiment.method(experiment.introductions)
    found: dict[Any, SubmodelPlan] = {}
    names: dict[Any, list[str]] = {}
    for client in experiment.introductions:
        scores = random_scores(experiment.shape, method.submodels.depth(client), np.random.default_rng(0))
        plan = method.submodels.plan(ClientRecord(introduction=client, scores=scores))
        found.setdefault(plan.counts, plan)
        names.setdefault(plan.counts, []).append(client.board)
    return {
        ", ".join(f"{n} x {name}" for name, n in Counter(names[counts]).items()): plan for counts, plan in found.items()
    }


def chosen_of(experiment: Experiment, plan: SubmodelPlan) -> Chosen:
    """Return a board's submodel with random weights, its deepest exit alone as a board would serve it."""
    whole: Any = experiment.shape
    shape = replace(whole, blocks=plan.depth, exits=(whole.exits_within(plan.depth)[-1],))
    model = Transformer(shape, plan)
    initialise(model, torch.Generator().manual_seed(0))
    facts = Facts(
        name="latency", method="", seed=0, version=0, data="", samples={}, shape=shape, plan=plan,
        classes=tuple(str(i) for i in range(shape.classes)), chosen_exit=plan.depth, scores=(),
        reading=Reading(kind="images"),
    )  # fmt: skip
    return Chosen(run=Path(), facts=facts, state={name: p.detach() for name, p in model.named_parameters()})


def exported(name: str, chosen: Chosen, folder: Path) -> Model:
    """Export to both, and open what was written."""
    folder.mkdir()
    x: NDArray[Any] = random_samples(chosen.facts.shape, 2)
    onnx.write(chosen, chosen.facts, folder, batch=1, sample=torch.from_numpy(x))
    program.write(chosen, chosen.facts, folder, batch=1, sample=torch.from_numpy(x))
    session, (module, _) = onnx.session(folder / onnx.FILE), program.load(folder / program.FILE)
    one, given = torch.from_numpy(x[:1]), {chosen.input_name: x[:1]}
    return Model(
        name=name,
        chosen=chosen,
        sizes={file: (folder / file).stat().st_size for file in (onnx.FILE, program.FILE)},
        ways={"onnxruntime": lambda: session.run(None, given), "torch": lambda: module(one)},
    )


@torch.no_grad()
def measured(models: list[Model], rounds: int) -> dict[tuple[str, str], list[float]]:
    """Return the CPU milliseconds of a sample, by model and library, one a round; a round to warm up is dropped."""
    taken: dict[tuple[str, str], list[float]] = {(m.name, way): [] for m in models for way in m.ways}
    for _ in range(rounds + 1):
        for model in models:
            for way, answer in model.ways.items():
                answer()
                started = time.thread_time()
                for _ in range(PASSES - 1):
                    answer()
                taken[model.name, way].append((time.thread_time() - started) / (PASSES - 1) * 1e3)
    return {key: times[1:] for key, times in taken.items()}


def table(models: list[Model], taken: dict[tuple[str, str], list[float]]) -> list[str]:
    """Return rows; the first model is the whole one."""
    whole, lines = models[0], [HEAD]
    for model in models:
        facts = model.chosen.facts
        found, kept = footprint(facts.shape, facts.plan.counts), facts.plan.counts[0]
        cells = [f"{size / 1e6:.3g} MB {size / whole.sizes[file]:.0%}" for file, size in model.sizes.items()]
        for way in model.ways:
            times, against = taken[model.name, way], taken[whole.name, way]
            share = statistics.median(a / b for a, b in zip(times, against, strict=True))
            cells.append(f"{statistics.median(times):.3g} ms {share:.0%}")
        lines.append(
            f"| {model.name} | {len(facts.plan.blocks)} x {kept.heads}/{kept.hidden} | {found.parameters:,} | "
            f"{found.forward_flops / 1e6:,.1f} | {' | '.join(cells)} |"
        )
    return lines


def case(name: str, rounds: int) -> str:
    """Return the table of one fleet and model."""
    _, sets = CASES[name]
    experiment = load_experiment(load_config(ROOT / "experiments/quickstart.yaml", list(sets)))
    whole = experiment.shape.full_plan()
    held = plans(experiment)
    of_all = next(
        (f"whole model: {boards}" for boards, plan in held.items() if plan.counts == whole.counts), "whole model"
    )
    found = {boards: plan for boards, plan in held.items() if plan.counts != whole.counts}
    with tempfile.TemporaryDirectory() as folder:
        models = [
            exported(board, chosen_of(experiment, plan), Path(folder) / str(i))
            for i, (board, plan) in enumerate({of_all: whole, **found}.items())
        ]
        return "\n".join([f"{rounds} rounds.", "", *table(models, measured(models, rounds))])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", choices=CASES, action="append")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    single_thread()
    held = sections(given.out) if given.out and given.out.is_file() else {}
    held |= {CASES[name][0]: case(name, given.rounds) for name in given.only or CASES}
    text = "\n".join([*INTRODUCTION, *(f"## {title}\n\n{rows}\n" for title, rows in held.items())])
    if given.out:
        given.out.write_text(text, encoding="utf-8")
    print(text)


def sections(path: Path) -> dict[str, str]:
    """Return the tables that a page holds, by what they are of."""
    parts = path.read_text(encoding="utf-8").split("\n## ")[1:]
    return {title: rows.strip() for title, _, rows in (part.partition("\n") for part in parts)}


if __name__ == "__main__":
    main()
