"""A whole run against the bare PyTorch loop: the same steps on the same number of processes, nothing else.

The run is ``cosp run`` without the start of Python and without the report: virtual time, submodels, messages, merging,
evaluation, rows, checkpoints. The bare loop gets the list of tasks that the run handed out and does their training,
scoring and evaluation with ``torch.optim.AdamW`` over the parameters of a module, in a ``multiprocessing.Pool``. Prints
the ratio of wall times, paired run by run; then the memory of the whole process tree and the time to the first
round of the command itself.

    python benchmarks/whole_run.py [CONFIG --data-dir DIR] [--set KEY=VALUE ...] [--workers 2] [--repeats 3]
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import torch

from cosp.config import load_config
from cosp.experiment import Experiment, load_experiment
from cosp.models.flat import FlatModel
from cosp.models.transformer import Transformer
from cosp.run.directory import RunDirectory
from cosp.simulation import simulate as simulator
from cosp.simulation.pool import WorkerPool
from cosp.task.serial import task_from_json, task_to_json
from cosp.task.task import Task
from cosp.trainer.samples import Samples
from cosp.trainer.store import open_store, write_store
from cosp.trainer.trainer import count_predictions, score_units
from cosp.trainer.training import evaluation_batches
from cosp.transfer import exit_loss


class RecordingPool(WorkerPool):
    """A pool that remembers what it was asked to do; in the class, for the simulator makes the pool."""

    tasks: list[Task] = []

    def submit(self, task, floats, fill, **more):  # type: ignore[no-untyped-def]
        self.tasks.append(task)
        return super().submit(task, floats, fill, **more)


def whole(experiment: Experiment, workers: int) -> float:
    """Return the seconds of a run, which leaves its tasks in ``RecordingPool.tasks``."""
    RecordingPool.tasks.clear()
    simulator.WorkerPool = RecordingPool  # type: ignore[misc,attr-defined]
    with tempfile.TemporaryDirectory() as folder:
        directory = RunDirectory.create(Path(folder) / "run", experiment.config)
        started = time.perf_counter()
        simulator.simulate(experiment, directory, workers=workers)
        return time.perf_counter() - started


def bare(experiment: Experiment, tasks: list[Task], workers: int) -> float:
    """Return the seconds that the bare loop takes for ``tasks``, its processes' start included."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        write_store(Path(folder), experiment.splits, experiment.rows)
        context = multiprocessing.get_context("forkserver")
        with context.Pool(workers, _open, (folder,)) as pool:
            for _ in pool.imap_unordered(_do, [task_to_json(task) for task in tasks]):
                pass
        return time.perf_counter() - started


def _open(folder: str) -> None:
    global clients, splits
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    clients, splits = open_store(Path(folder))


def _do(text: str) -> None:
    task = task_from_json(text)
    if task.kind == "evaluate":
        split = splits[task.split]
        part = slice(task.first, task.last)
        count_predictions(FlatModel(task.shape, task.plan, torch.device("cpu")), Samples(split.x[part], split.y[part]))
    elif task.kind == "score":
        assert task.scoring is not None
        own = clients[task.client].train
        chosen = Samples(own.x[: task.scoring.samples], own.y[: task.scoring.samples])
        model = FlatModel(task.shape, task.plan, torch.device("cpu"), trains=False)
        batches = list(evaluation_batches(chosen, task.scoring.batch_size))
        score_units(model, batches, task.scoring, task.keep, torch.Generator())
    else:
        _train(task)


def _train(task: Task) -> None:
    own, settings = clients[task.client], task.training
    model = Transformer(task.shape, task.plan)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    rng = np.random.default_rng(0)
    _judge(model, own.test)
    for _ in range(settings.epochs):
        order = rng.permutation(len(own.train.y))
        for start in range(0, len(order), settings.batch_size):
            chosen = order[start : start + settings.batch_size]
            logits = model(torch.from_numpy(own.train.x[chosen]))
            loss, _deepest = exit_loss(logits, torch.from_numpy(own.train.y[chosen]), task.transfer, task.version)
            optimizer.zero_grad()
            loss.backward()
            if settings.clip_norm is not None:
                torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
            optimizer.step()
    _judge(model, own.test)


@torch.no_grad()
def _judge(model: Transformer, samples: Samples) -> None:
    for x, y in evaluation_batches(samples, 256):
        (model(x)[-1].argmax(-1) == y).sum()


def command(arguments: list[str]) -> tuple[float, float, float]:
    """Run ``cosp run`` and return seconds to the first round, to the end, and the tree's peak memory in bytes.

    Memory is the sum of proportional set sizes: pages that processes share count once.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        started, first_s, peak = time.perf_counter(), float("nan"), 0
        process = psutil.Popen(
            [sys.executable, "-m", "cosp.cli", "run", *arguments, "--out", str(out)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while process.poll() is None:
            peak = max(peak, _pss(process))
            rows = out / "rows.jsonl"
            if first_s != first_s and rows.is_file() and '"kind": "round"' in rows.read_text():
                first_s = time.perf_counter() - started
            time.sleep(0.1)
        if process.returncode:
            raise SystemExit(f"cosp run {' '.join(arguments)} ended with {process.returncode}")
        return first_s, time.perf_counter() - started, peak


def _pss(process: psutil.Process) -> int:
    total = 0
    for each in (process, *process.children(recursive=True)):
        try:
            total += each.memory_full_info().pss
        except psutil.Error:  # it has just ended
            continue
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", default="experiments/quickstart.yaml")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--set", dest="sets", action="append", default=[])
    parser.add_argument("--workers", type=int, default=simulator.default_workers())
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    experiment = load_experiment(load_config(Path(given.config), given.sets), data_dir=given.data_dir)
    pairs = []
    for _ in range(given.repeats):
        run_s = whole(experiment, given.workers)
        pairs.append((run_s, bare(experiment, RecordingPool.tasks, given.workers)))
    print(f"{given.config}: {len(RecordingPool.tasks)} tasks, {given.workers} processes, median of {given.repeats}")
    print(f"  bare PyTorch loop {statistics.median(b for _, b in pairs):8.1f} s")
    print(f"  cosp              {statistics.median(a for a, _ in pairs):8.1f} s")
    print(f"  ratio             {statistics.median(a / b for a, b in pairs):8.2f}")
    arguments = [given.config, "--workers", str(given.workers), *(f"--set={pair}" for pair in given.sets)]
    first_s, all_s, peak = command(arguments + (["--data-dir", str(given.data_dir)] if given.data_dir else []))
    print(f"  the command: first round after {first_s:.1f} s, all of it {all_s:.1f} s, at most {peak / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
