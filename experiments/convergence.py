"""Does the gradient fall as fast as Co-S2P's theorem says? Mean ||grad F||^2 over rounds against Q, E and N*.

The claim (Li et al., arXiv 2410.08457): with Q rounds of E local epochs and every entry trained by at least N* clients,
the mean over rounds of ||grad F(theta_q)||^2 falls as O(1 / sqrt(N* E Q)), at a local learning rate that goes with
sqrt(N* / (E Q)). Here the server's own coordinator and trainer train a small image model on digits, spread over 8
clients (Dirichlet 1.0): plain SGD, exits with cross-entropy, no transfer, coverage-normalised merge. N* clients hold
both blocks, the others the first alone. Half of the clients answer one round late. All runs of a seed begin at the
same model, trained for 32 rounds: a fresh model's gradient is small and first grows, whatever the theorem. One of
Q, E, N* is varied at a time; slopes of log ||grad F||^2 are fitted by least squares over all runs, with 95 % intervals.

    python experiments/convergence.py [--out docs/results/convergence] [--seeds 0,1,2] [--rate fixed]

``--rate fixed`` keeps one learning rate for all, which is not the theorem's choice but everybody's.
"""

from __future__ import annotations

import argparse
import csv
import math
from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import track
from scipy import stats

from cosp.data import PartitionScheme, Sizes, load_dataset, partition
from cosp.fleet.introduction import Introduction
from cosp.merge.aggregation import ServerStep
from cosp.merge.staleness import constant
from cosp.methods.method import Method
from cosp.models import ViTShape
from cosp.models.flat import FlatModel
from cosp.models.transformer import Transformer, initialise
from cosp.seeds import torch_stream
from cosp.server.coordinator import Coordinator
from cosp.submodel.flat import flatten, spans_of, views
from cosp.submodel.shape import layout_of
from cosp.submodel.slicing import State
from cosp.task.task import Task
from cosp.task.training import TrainSettings
from cosp.trainer.samples import ClientSamples, Samples
from cosp.trainer.trainer import Trainer
from cosp.transfer import TransferSettings

CLIENTS = 8
SHAPE = ViTShape(image=8, patch=2, channels=1, classes=10, dim=16, blocks=2, heads=2, hidden=32, exits=(1, 2))
CENTRE = {"rounds": 32, "epochs": 2, "coverage": 4}
VARIED = {"rounds": (16, 32, 64, 128), "epochs": (1, 2, 4, 8), "coverage": (1, 2, 4, 8)}
LEARNING_RATE = 0.05
"""At the centre, and before."""
WARM_ROUNDS = 32
NAMES = {"rounds": "Q, rounds", "epochs": "E, local epochs", "coverage": "N*, least coverage"}


@dataclass(frozen=True)
class Result:
    seed: int
    rounds: int
    epochs: int
    coverage: int
    learning_rate: float
    mean_square: float
    last_square: float


def settings() -> list[dict[str, int]]:
    """Return the centre, and each quantity varied alone."""
    found = [{**CENTRE, name: value} for name, values in VARIED.items() for value in values]
    return [dict(pairs) for pairs in dict.fromkeys(tuple(one.items()) for one in found)]


def rate_of(setting: dict[str, int], fixed: bool) -> float:
    if fixed:
        return LEARNING_RATE
    share = {name: setting[name] / CENTRE[name] for name in CENTRE}
    return LEARNING_RATE * math.sqrt(share["coverage"] / (share["epochs"] * share["rounds"]))


def clients_of(seed: int) -> dict[int, ClientSamples]:
    data = load_dataset("digits", data_dir=None, seed=seed, sizes=Sizes(train=None, validation=None, test=None))
    scheme = PartitionScheme(kind="dirichlet", alpha=1.0, pseudo_clients=False, min_samples=32)
    parts = partition(data.train.y, scheme=scheme, shares=[1.0] * CLIENTS, seed=seed)
    nothing = Samples(data.train.x[:1], data.train.y[:1])
    return {n: ClientSamples(Samples(data.train.x[rows], data.train.y[rows]), nothing) for n, rows in enumerate(parts)}


def fresh(seed: int) -> State:
    model = Transformer(SHAPE)
    initialise(model, torch_stream(seed, "initial model"))
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def coordinator(
    clients: dict[int, ClientSamples], seed: int, coverage: int, training: TrainSettings, model: State
) -> Coordinator:
    """Return a server of which clients below ``coverage`` hold everything, and the others one block."""
    method = Method(
        name="theorem",
        plan=lambda record: SHAPE.full_plan(2 if record.client < coverage else 1),
        depth=lambda client: 2 if client.client < coverage else 1,
        scoring=None,
        transfer=TransferSettings(teacher="none"),
        weigh=constant(),
        step=ServerStep(),
        evaluated=SHAPE.full_plan(),
    )
    return Coordinator(
        shape=SHAPE,
        method=method,
        training=training,
        model=model,
        clients=[introduction(client, own) for client, own in clients.items()],
        seed=seed,
    )


def introduction(client: int, own: ClientSamples) -> Introduction:
    counts = tuple(np.bincount(own.train.y, minlength=SHAPE.classes).tolist())
    return Introduction(client=client, board="", link="", keep=None, memory_bytes=0, samples=len(own.train.y),
                        test_samples=1, class_counts=counts)  # fmt: skip


def run(seed: int, setting: dict[str, int], learning_rate: float) -> Result:
    """Train on from the warm model, and return the mean over versions of the objective's squared gradient."""
    squares, _ = train(warm(seed), seed, **setting, learning_rate=learning_rate)
    return Result(
        seed, **setting, learning_rate=learning_rate, mean_square=float(np.mean(squares)), last_square=squares[-1]
    )


@lru_cache(maxsize=1)
def warm(seed: int) -> State:
    _, model = train(fresh(seed), seed, WARM_ROUNDS, CENTRE["epochs"], CLIENTS, LEARNING_RATE)
    return model


def train(
    model: State, seed: int, rounds: int, epochs: int, coverage: int, learning_rate: float
) -> tuple[list[float], State]:
    """Return the squared gradient at every version but the last, and the last."""
    clients = clients_of(seed)
    training = TrainSettings(epochs=epochs, batch_size=16, optimizer="sgd", learning_rate=learning_rate,
                             weight_decay=0.0, momentum=0.0, clip_norm=None)  # fmt: skip
    own = {name: tensor.clone() for name, tensor in model.items()}
    server, trainer = coordinator(clients, seed, coverage, training, own), Trainer(clients, {})
    everything = Samples(*(np.concatenate(part) for part in zip(*(one.train for one in clients.values()), strict=True)))
    squares: list[float] = []
    late: list[Task] = []
    for _ in range(rounds):
        squares.append(square_gradient(server, everything))
        tasks = [server.next_task(client) for client in clients]
        for task in [*tasks[0::2], *late]:
            facts, change = trainer.run(task, flatten(server.weights(task), task.spans))
            server.take_update(task, views(change, task.spans), facts["samples"])
        late = tasks[1::2]
        server.close_round(late)
    return squares, dict(server.model)


def square_gradient(server: Coordinator, samples: Samples) -> float:
    """Return the squared norm of the gradient of the whole model's loss, all exits, over everybody's data."""
    model = FlatModel(SHAPE, SHAPE.full_plan(), torch.device("cpu"))
    model.load(flatten(server.model, spans_of(layout_of(SHAPE), SHAPE.full_plan().counts)))
    labels = torch.from_numpy(samples.y)
    loss = torch.stack([F.cross_entropy(z, labels) for z in model.module(torch.from_numpy(samples.x))]).sum()
    loss.backward()
    return float(model.gradients.square().sum())


def slopes(results: list[Result]) -> dict[str, tuple[float, float]]:
    """Return, for each quantity, the slope of log mean ||grad F||^2 over its log, and half its 95 % interval."""
    logs = np.log([[result.rounds, result.epochs, result.coverage, math.e] for result in results])
    y = np.log([result.mean_square for result in results])
    found, *_ = np.linalg.lstsq(logs, y, rcond=None)
    freedom = len(y) - logs.shape[1]
    variance = float(((y - logs @ found) ** 2).sum()) / freedom
    errors = np.sqrt(variance * np.diag(np.linalg.inv(logs.T @ logs)))
    half = stats.t.ppf(0.975, freedom) * errors
    return {name: (float(found[i]), float(half[i])) for i, name in enumerate(CENTRE)}


def table(results: list[Result]) -> Iterator[str]:
    """Yield the lines of a Markdown table: the centre's line is repeated where each quantity passes it."""
    yield "| varied | value | learning rate | mean of squared gradients | at the last version |"
    yield "| --- | --- | --- | --- | --- |"
    for name, values in VARIED.items():
        for value in values:
            setting = {**CENTRE, name: value}
            found = [r for r in results if all(getattr(r, key) == setting[key] for key in CENTRE)]
            means, lasts = [r.mean_square for r in found], [r.last_square for r in found]
            spread = f" ± {np.std(means, ddof=1):.3f}" if len(means) > 1 else ""
            figures = f"{found[0].learning_rate:.4f} | {np.mean(means):.3f}{spread} | {np.mean(lasts):.3f}"
            yield f"| {NAMES[name]} | {value} | {figures} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", default="0,1,2", help="comma-separated")
    parser.add_argument("--rate", choices=("theorem", "fixed"), default="theorem")
    parser.add_argument("--out", type=Path, help="folder for RATE.csv and RATE.md; else standard output alone")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    cells = [(seed, setting) for seed in map(int, asked.seeds.split(",")) for setting in settings()]
    console = Console(stderr=True)
    results = [
        run(seed, setting, rate_of(setting, asked.rate == "fixed"))
        for seed, setting in track(cells, description="runs", console=console)
    ]
    lines = [*table(results), ""]
    lines += [f"- slope over {NAMES[name]}: {slope:+.2f} ± {half:.2f} (claimed: -0.5 or steeper)"
              for name, (slope, half) in slopes(results).items()]  # fmt: skip
    print("\n".join(lines))
    if asked.out:
        asked.out.mkdir(parents=True, exist_ok=True)
        with (asked.out / f"{asked.rate}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([[f.name for f in fields(Result)], *map(astuple, results)])
        (asked.out / f"{asked.rate}.md").write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
