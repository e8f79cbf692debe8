"""The same model, data and local steps in pfl-research's simulation, beside cosp's, one process each.

1,000 clients of about 50 Fashion-MNIST images, 100 in a round, batch 10, one epoch of AdamW with clipping, three
rounds (``benchmarks/small_clients.yaml``); then the same with a model of some thousand parameters, where what a task
costs beside its steps rules; both also with 32 clients in one pass (``together``), which pfl has no like of. Each
side runs in a process of its own that has read the data before it is timed. cosp also judges every client's model on
its held-back images before and after training, prices the task and writes its row, which pfl does not.

Prints CPU milliseconds an update of both, and how many times as fast as pfl cosp is, paired run by run; then seconds
of cosp's run on two workers beside those of Flower's own simulation on two actors, Ray's start included (it needs the
extra ``ray``). Makes an environment for pfl under ``.venv/peers`` on its first use, which needs a package registry.

    python benchmarks/peers.py --data-dir DIR [--repeats 5] [--flower 1]
"""

from __future__ import annotations

import argparse
import json
import os
import site
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

from cosp.config import load_config
from cosp.experiment import Experiment, load_experiment
from cosp.models.transformer import Transformer, initialise
from cosp.transfer import TransferSettings, exit_loss

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "benchmarks" / "small_clients.yaml"
PEERS = ROOT / ".venv" / "peers"
PFL = "pfl==0.6.0"
TINY = ["model.dim=16", "model.blocks=1", "model.heads=2", "model.hidden=16", "model.exits=[1]"]
MODELS = {
    "ViT of 0.2 M parameters": [],
    "ViT of 0.2 M parameters, 32 together": ["together=32"],
    "ViT of 5 k parameters": TINY,
    "ViT of 5 k parameters, 32 together": [*TINY, "together=32"],
}
ROUNDS, COHORT, WORKERS = 3, 100, 2


def experiment_of(overrides: list[str], data_dir: Path) -> Experiment:
    """Return the job; the server judges its model on few images, as pfl is not asked to."""
    few = ["data.test=100", "data.validation=100"]
    return load_experiment(load_config(CONFIG, [*few, *overrides]), data_dir=data_dir)


def ours(experiment: Experiment, workers: int = 0) -> int:
    """Run cosp to its end, in this process if without workers; return how many updates were trained."""
    from cosp.run.directory import RunDirectory
    from cosp.simulation.simulate import simulate

    with tempfile.TemporaryDirectory() as folder:
        directory = RunDirectory.create(Path(folder) / "run", experiment.config)
        simulate(experiment, directory, workers=workers)
        rows = (directory.folder / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    return sum(json.loads(row).get("task") == "train" for row in rows)


class Loss(torch.nn.Module):
    """Our model as pfl wants one: with ``loss`` and ``metrics``."""

    def __init__(self, experiment: Experiment) -> None:
        super().__init__()
        self.inner = Transformer(experiment.shape)
        initialise(self.inner, torch.Generator().manual_seed(0))

    def loss(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        self.train()
        return exit_loss(self.inner(x), y, TransferSettings(teacher="none"), 0)[0]

    def metrics(self, x: torch.Tensor, y: torch.Tensor) -> dict[str, Any]:
        return {}


def theirs(experiment: Experiment) -> int:
    """The same in pfl's ``SimulatedBackend``; return how many updates were trained."""
    from pfl.aggregate.simulate import SimulatedBackend
    from pfl.algorithm.base import NNAlgorithmParams
    from pfl.algorithm.federated_averaging import FederatedAveraging
    from pfl.data.dataset import Dataset
    from pfl.data.federated_dataset import FederatedDataset
    from pfl.data.sampling import get_user_sampler
    from pfl.hyperparam import NNTrainHyperParams
    from pfl.model.pytorch import PyTorchModel

    settings = experiment.config.training
    train = experiment.splits["train"]
    x, y = torch.from_numpy(train.x), torch.from_numpy(train.y)
    rows = [torch.from_numpy(experiment.rows[client][0]) for client in range(len(experiment.boards))]
    module = Loss(experiment)
    model = PyTorchModel(
        model=module,
        local_optimizer_create=lambda parameters, lr: torch.optim.AdamW(
            parameters, lr=lr, weight_decay=settings.weight_decay, fused=True
        ),
        central_optimizer=torch.optim.SGD(module.parameters(), 1.0),
    )
    users = list(range(len(rows)))
    data = FederatedDataset(
        lambda user: Dataset((x[rows[user]], y[rows[user]])), get_user_sampler("minimize_reuse", users)
    )
    FederatedAveraging().run(
        algorithm_params=NNAlgorithmParams(
            central_num_iterations=ROUNDS, evaluation_frequency=1000, train_cohort_size=COHORT, val_cohort_size=0
        ),
        backend=SimulatedBackend(training_data=data, val_data=data),
        model=model,
        model_train_params=NNTrainHyperParams(
            local_num_epochs=settings.epochs,
            local_learning_rate=settings.learning_rate,
            local_batch_size=settings.batch_size,
            local_max_grad_norm=settings.clip_norm,
        ),
    )
    return ROUNDS * COHORT


def flower(experiment: Experiment) -> int:
    """The same in Flower's simulation, on two actors; return how many updates were trained."""
    from flower_peer import simulated

    with tempfile.TemporaryDirectory() as folder:
        return simulated(experiment, Path(folder), rounds=ROUNDS, cohort=COHORT, actors=WORKERS)


SIDES = {"cosp": ours, "pfl": theirs, "cosp-workers": partial(ours, workers=WORKERS), "flower": flower}


def measure(side: str, overrides: list[str], data_dir: Path) -> None:
    """Print what one side takes, as JSON; in a process of its own."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    experiment = experiment_of(overrides, data_dir)
    started, cpu = time.perf_counter(), time.process_time()
    updates = SIDES[side](experiment)
    print(json.dumps({"cpu_s": time.process_time() - cpu, "s": time.perf_counter() - started, "updates": updates}))


def peers_python() -> Path:
    """Return a Python that has pfl, and all that this one has."""
    python = PEERS / "bin" / "python"
    if not python.exists():
        print(f"making {PEERS} with {PFL}; takes a minute, once", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(PEERS)], check=True)
        (pure,) = PEERS.glob("lib/python3*/site-packages")
        (pure / "ours.pth").write_text("\n".join(site.getsitepackages()), encoding="utf-8")
        packages = [PFL, "multiprocess", "dp-accounting", "prv-accountant", "wheel"]
        pip = [str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
        subprocess.run([*pip, "--no-deps", *packages, "dm-tree", "opt_einsum"], check=True)
    return python


def one(side: str, overrides: list[str], data_dir: Path) -> dict[str, float]:
    python = str(peers_python()) if side == "pfl" else sys.executable
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}:{ROOT / 'benchmarks'}",
        "OMP_NUM_THREADS": "1",
        "PFL_PYTORCH_DEVICE": "cpu",
    }
    words = [python, __file__, "--side", side, "--data-dir", str(data_dir), *(f"--set={text}" for text in overrides)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{side}:\n{done.stderr}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--flower", type=int, default=1, metavar="REPEATS", help="pairs with Flower's simulation")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--set", action="append", default=[], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        measure(given.side, given.set, given.data_dir)
        return
    for name, overrides in MODELS.items():
        pairs = []
        for _ in range(given.repeats):
            a, b = (one(side, overrides, given.data_dir) for side in ("cosp", "pfl"))
            pairs.append(tuple(1e3 * took["cpu_s"] / took["updates"] for took in (a, b)))
        cosp_ms, pfl_ms = (statistics.median(pair[i] for pair in pairs) for i in (0, 1))
        ratio = statistics.median(b / a for a, b in pairs)
        print(f"{name}: cosp {cosp_ms:.1f} ms an update, pfl {pfl_ms:.1f}: {ratio:.2f} times as fast as pfl")
        if given.flower:
            beside_flower(name, overrides, given.data_dir, given.flower)


def beside_flower(name: str, overrides: list[str], data_dir: Path, repeats: int) -> None:
    """Print how many times as fast cosp is as Flower's simulation, by the clock: both on ``WORKERS`` processes."""
    both = [[one(side, overrides, data_dir) for side in ("cosp-workers", "flower")] for _ in range(repeats)]
    faster = statistics.median(b["s"] / b["updates"] / (a["s"] / a["updates"]) for a, b in both)
    cosp_s, flower_s = (statistics.median(pair[i]["s"] for pair in both) for i in (0, 1))
    print(
        f"{name}, {WORKERS} processes: cosp {cosp_s:.1f} s, Flower's simulation {flower_s:.1f} s: "
        f"{faster:.2f} times as fast"
    )


if __name__ == "__main__":
    main()
