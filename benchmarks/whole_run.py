"""A whole run against the bare PyTorch loop: the same steps on the same number of processes, nothing else.

The run is ``cosp run`` without the start of Python and without the report: virtual time, submodels, messages, merging,
evaluation, rows, checkpoints. The bare loop is the least that such a run needs: in a ``multiprocessing.Pool`` it does
the training, scoring and evaluation of those tasks whose result the run asked for, with fused ``torch.optim.AdamW``
over the parameters of a module that it makes once a shape, from weights that are there already; of a client's own test
data it asks the deepest exit alone. Nothing is cut, merged or sent.

Prints the ratios of CPU seconds, all processes together, and of wall times, paired run by run; how many tasks were
trained for nothing; then the memory of the whole process tree and the time to the first round of the command itself.

    python benchmarks/whole_run.py [CONFIG --data-dir DIR] [--set KEY=VALUE ...] [--workers 2] [--repeats 3]
    python benchmarks/whole_run.py benchmarks/small_clients.yaml --data-dir DIR
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import torch

from cosp.config import load_config
from cosp.experiment import Experiment, load_experiment
from cosp.models.transformer import Transformer, initialise
from cosp.run.directory import RunDirectory
from cosp.simulation import simulate as simulator
from cosp.simulation.pool import WorkerPool
from cosp.submodel.plan import GROUPS, BlockPlan, GroupSizes, SubmodelPlan
from cosp.submodel.shape import TransformerShape
from cosp.task.task import Task
from cosp.trainer.samples import Samples
from cosp.trainer.store import open_store, write_store
from cosp.trainer.trainer import count_predictions, score_units
from cosp.trainer.training import evaluation_batches
from cosp.transfer import exit_loss


class RecordingPool(WorkerPool):
    """A pool that remembers what it was asked to do; in the class, for the simulator makes the pool."""

    submitted, workers_s = 0, 0.0
    tasks: list[Task] = []
    """Those whose result was asked for."""

    def submit(self, *arguments, **more):  # type: ignore[no-untyped-def]
        RecordingPool.submitted += 1
        return super().submit(*arguments, **more)

    def result(self, job):  # type: ignore[no-untyped-def]
        self.tasks.extend(job.task.each)
        return super().result(job)

    def __exit__(self, *error):  # type: ignore[no-untyped-def]
        for worker in self._workers:  # no children of this process: nobody else counts their seconds
            spent = psutil.Process(worker.process.pid).cpu_times()
            RecordingPool.workers_s += spent.user + spent.system
        super().__exit__(*error)


class Took(NamedTuple):
    cpu_s: float
    wall_s: float


def timed(call: Callable[[], object]) -> Took:
    """Return what ``call`` took, with the processes that it started and that have ended."""
    before, started = os.times(), time.perf_counter()
    call()
    after, wall_s = os.times(), time.perf_counter() - started
    return Took(sum(after[:4]) - sum(before[:4]), wall_s)


def whole(experiment: Experiment, workers: int) -> Took:
    """Return what a run took, which leaves its tasks in ``RecordingPool.tasks``."""
    RecordingPool.tasks.clear()
    RecordingPool.submitted, RecordingPool.workers_s = 0, 0.0
    simulator.WorkerPool = RecordingPool  # type: ignore[misc,attr-defined]
    with tempfile.TemporaryDirectory() as folder:
        directory = RunDirectory.create(Path(folder) / "run", experiment.config)
        took = timed(lambda: simulator.simulate(experiment, directory, workers=workers))
        return took._replace(cpu_s=took.cpu_s + RecordingPool.workers_s)


def bare(experiment: Experiment, tasks: list[Task], workers: int) -> Took:
    """Return what the bare loop takes for ``tasks``, its processes' start included."""
    with tempfile.TemporaryDirectory() as folder:
        return timed(lambda: _bare(experiment, tasks, workers, Path(folder)))


def _bare(experiment: Experiment, tasks: list[Task], workers: int, folder: Path) -> None:
    write_store(folder, experiment.splits, experiment.rows)
    context = multiprocessing.get_context("fork")  # workers' CPU seconds count when they have been waited for
    with context.Pool(workers, _open, (str(folder),)) as pool:
        for _ in pool.imap_unordered(_do, tasks):
            pass
        pool.close()
        pool.join()


def _open(folder: str) -> None:
    global clients, splits
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    clients, splits = open_store(Path(folder))


@lru_cache(maxsize=64)
def _model(shape: TransformerShape, counts: tuple[GroupSizes, ...]) -> tuple[Transformer, list[torch.Tensor]]:
    """Return a submodel that keeps the first units, and the weights that every task starts from."""
    blocks = tuple(BlockPlan(**{group: tuple(range(one.of(group))) for group in GROUPS}) for one in counts)
    model = Transformer(shape, SubmodelPlan(blocks))
    initialise(model, torch.Generator().manual_seed(0))
    return model, [parameter.detach().clone() for parameter in model.parameters()]


def _do(task: Task) -> None:
    model, weights = _model(task.shape, task.plan.counts)
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), weights, strict=True):
            parameter.copy_(value)
    if task.kind == "evaluate":
        split, part = splits[task.split], slice(task.first, task.last)
        count_predictions(Bare(model, weights[0]), Samples(split.x[part], split.y[part]))  # type: ignore[arg-type]
    elif task.kind == "score":
        assert task.scoring is not None
        own = clients[task.client].train
        chosen = Samples(own.x[: task.scoring.samples], own.y[: task.scoring.samples])
        batches = list(evaluation_batches(chosen, task.scoring.batch_size))
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        score_units(Bare(model, weights[0]), batches, task.scoring, task.keep, torch.Generator())  # type: ignore[arg-type]
        for parameter in model.parameters():
            parameter.requires_grad_(True)
    else:
        _train(task, model)


class Bare(NamedTuple):
    """What counting and scoring read of a model."""

    module: Transformer
    weights: torch.Tensor


def _train(task: Task, model: Transformer) -> None:
    own, settings = clients[task.client], task.training
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
    )
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
                torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm, foreach=True)
            optimizer.step()
    _judge(model, own.test)


@torch.no_grad()
def _judge(model: Transformer, samples: Samples) -> None:
    for x, y in evaluation_batches(samples, 256):
        (model.deepest(x).argmax(-1) == y).sum()


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
    parser.add_argument("--only-ratios", action="store_true", help="leave the command itself out")
    given = parser.parse_args()
    experiment = load_experiment(load_config(Path(given.config), given.sets), data_dir=given.data_dir)
    pairs = []
    for _ in range(given.repeats):
        run = whole(experiment, given.workers)
        pairs.append((run, bare(experiment, RecordingPool.tasks, given.workers)))
    done, for_nothing = len(RecordingPool.tasks), RecordingPool.submitted - len(RecordingPool.tasks)
    print(f"{given.config}: {done} tasks, {for_nothing} more submitted for nothing, {given.workers} processes, "
          f"median of {given.repeats}")  # fmt: skip
    for name, of in (("CPU", lambda took: took.cpu_s), ("wall", lambda took: took.wall_s)):
        bare_s, run_s = (statistics.median(of(pair[i]) for pair in pairs) for i in (1, 0))
        ratio = statistics.median(of(run) / of(bare) for run, bare in pairs)
        print(f"  {name:<4} bare PyTorch loop {bare_s:8.1f} s, cosp {run_s:8.1f} s, ratio {ratio:5.2f}")
    if given.only_ratios:
        return
    arguments = [given.config, "--workers", str(given.workers), *(f"--set={pair}" for pair in given.sets)]
    first_s, all_s, peak = command(arguments + (["--data-dir", str(given.data_dir)] if given.data_dir else []))
    print(f"  the command: first round after {first_s:.1f} s, all of it {all_s:.1f} s, at most {peak / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
