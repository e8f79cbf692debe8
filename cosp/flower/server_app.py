"""Flower's ServerApp: the simulator's loop over a grid that Flower brings, on the wall clock."""

from __future__ import annotations

from typing import Any

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from cosp.console import line_of
from cosp.experiment import single_thread
from cosp.flower.guarded_grid import guarded
from cosp.flower.run_config import experiment_from, out_folder, source_of
from cosp.run import checkpoint as checkpoints
from cosp.run.directory import RunDirectory
from cosp.run.evaluation import in_process
from cosp.run.serve import serve
from cosp.trainer.trainer import Trainer

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train the experiment that the run config names and leave a run directory, or go on in the one that is there."""
    folder = out_folder(context.run_config)
    experiment = experiment_from(source_of(context.run_config))
    resume = bool(context.run_config.get("resume")) and (folder / "config.yaml").is_file()
    directory = RunDirectory.reopen(folder) if resume else RunDirectory.create(folder, experiment.config)
    saved = checkpoints.load(directory.checkpoints) if resume else None
    single_thread()
    evaluate_with = in_process(Trainer({}, experiment.splits))
    serve(guarded(grid), experiment, directory, evaluate_with=evaluate_with, on_row=_print_row, saved=saved)
    print(f"run directory: {folder}", flush=True)


def _print_row(row: dict[str, Any]) -> None:
    if line := line_of(row):
        print(line, flush=True)
