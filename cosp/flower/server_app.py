"""Flower's ServerApp: the simulator's loop over a grid that Flower brings, on the wall clock."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from cosp.config import has_stream
from cosp.console import line_of
from cosp.experiment import single_thread
from cosp.flower.guarded_grid import guarded
from cosp.flower.run_config import Source, experiment_from, out_folder, source_of
from cosp.run import checkpoint as checkpoints
from cosp.run.directory import RunDirectory
from cosp.run.evaluation import in_process
from cosp.run.serve import serve
from cosp.stream.deployed import open_deployed
from cosp.stream.planning import leaving_text
from cosp.stream.progress import line_of as stream_line_of
from cosp.stream.real import serve_boards
from cosp.stream.settings import load_adapt
from cosp.trainer.trainer import Trainer

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train the experiment that the run config names and leave a run directory, or go on in the one that is there.

    Of a file with ``stream:`` have boards serve, and adapt them.
    """
    folder = out_folder(context.run_config)
    source = source_of(context.run_config)
    if has_stream(source.config):
        _serve_stream(grid, source, folder)
        return
    experiment = experiment_from(source)
    resume = bool(context.run_config.get("resume")) and (folder / "config.yaml").is_file()
    directory = RunDirectory.reopen(folder) if resume else RunDirectory.create(folder, experiment.config)
    saved = checkpoints.load(directory.checkpoints) if resume else None
    single_thread()
    evaluate_with = in_process(Trainer({}, experiment.splits))
    serve(guarded(grid), experiment, directory, evaluate_with=evaluate_with, on_row=_print_row, saved=saved)
    print(f"run directory: {folder}", flush=True)


def _serve_stream(grid: Grid, source: Source, folder: Path) -> None:
    """Have the boards of a run that has ended serve what comes to them, and adapt them to it."""
    config = load_adapt(source.config, source.overrides)
    deployed = open_deployed(Path(config.model.pretrained), data_dir=source.data_dir)
    print(leaving_text(config), flush=True)
    serve_boards(guarded(grid), config, deployed, RunDirectory.create(folder, config), on_row=_print_stream_row)
    print(f"run directory: {folder}", flush=True)


def _print_row(row: dict[str, Any]) -> None:
    if line := line_of(row):
        print(line, flush=True)


def _print_stream_row(row: dict[str, Any]) -> None:
    if line := stream_line_of(row):
        print(line, flush=True)
