"""Commands of a simulated run: run, plan, report."""

from __future__ import annotations

import json
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cosp.cli.adapt import plan_stream
from cosp.cli.lazily import lazily
from cosp.cli.models import To, say_predictions, say_written, written
from cosp.cli.screen import (
    ConfigPath,
    DataDir,
    Json,
    Sets,
    WithReport,
    check_begins_or_goes_on,
    err,
    free_folder,
    new_typer,
    out,
    print_calibrations,
    print_imported,
    print_notes,
    say_caution,
)
from cosp.cli.watch import watch_run
from cosp.errors import UserError

if TYPE_CHECKING:  # a command imports what it needs when it is called
    from cosp.config import Config
    from cosp.run.directory import RunDirectory

app = new_typer()


class EngineName(StrEnum):
    """What ``--engine`` may be."""

    local = "local"
    ray = "ray"
    inline = "inline"


RUN_EXAMPLES = (
    "Examples: `cosp run experiments/quickstart.yaml` · `cosp run experiments/fashion_mnist.yaml --data-dir DATA "
    "--set variant=synchronous --seed 1` · `cosp run --resume runs/quickstart`"
)


@app.command(epilog=RUN_EXAMPLES)
def run(
    config: Annotated[Path | None, typer.Argument(metavar="CONFIG", help="A YAML file; not with --resume")] = None,
    out_dir: Annotated[Path | None, typer.Option("--out", help="Run directory; default runs/NAME")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Worker processes; default one a core")] = None,
    seed: Annotated[int | None, typer.Option(help="Override the seed")] = None,
    engine: Annotated[
        EngineName, typer.Option(help="Where tasks are done: processes here, a Ray cluster, this process itself")
    ] = EngineName.local,
    address: Annotated[
        str | None, typer.Option(metavar="auto|ray://HOST|HOST:PORT", help="The Ray cluster to join; else one starts")
    ] = None,
    devices: Annotated[
        str | None, typer.Option(metavar="cpu|cuda|cuda:0,cuda:1", help="What workers compute on; default all GPUs")
    ] = None,
    dry: Annotated[bool, typer.Option("--dry", help="Run the timeline only; nothing is trained")] = False,
    resume: Annotated[Path | None, typer.Option(help="Go on with the run in this directory")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Serve a page on this machine that follows it")] = False,
    track: Annotated[
        list[str] | None,
        typer.Option(metavar="TRACKER[=PLACE]", help="tensorboard, mlflow, trackio or wandb; may be given often"),
    ] = None,
    export_to: Annotated[To | None, typer.Option("--export", help="Then write its model as RUN/export")] = None,
    inputs: Annotated[
        list[str] | None, typer.Option("--predict", metavar="INPUT", help="Then classify this; may be given often")
    ] = None,
    with_report: WithReport = True,
    sets: Sets = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Train a simulated fleet; write rows, metrics and a report."""
    lazily("torch")  # so that its import and that of the workers go on at a time, and errors need not wait for it
    from cosp.console import RunProgress, summary_table
    from cosp.run.directory import RunDirectory
    from cosp.simulation import forks
    from cosp.track import Tracks, check_tracks

    wanted = check_tracks(track or [])
    _check_place(engine, address, workers)
    overrides = [*(sets or []), *([f"seed={seed}"] if seed is not None else [])]
    chosen, directory = _chosen(config, resume, overrides, anew=bool(out_dir or dry))
    if directory is not None:
        dry = directory.is_dry()
    elif out_dir is not None:
        RunDirectory.check_free(out_dir)  # said now, not when data and model are read
    _check_afterwards(export_to, inputs, dry=dry, as_json=as_json)
    if not dry and engine is EngineName.local:
        forks.start()
    from cosp.experiment import load_experiment
    from cosp.simulation.simulate import simulate

    try:
        with ExitStack() as opened, RunProgress(err, chosen.server.versions, chosen.server.until_s) as progress:
            experiment = load_experiment(chosen, data_dir=data_dir)
            print_notes(experiment.notes)
            say_caution(experiment)
            if experiment.imported is not None:
                print_imported(experiment.imported, experiment.fitted_exits)
            if directory is None:
                directory = RunDirectory.create(out_dir or free_folder(Path("runs"), chosen.label), chosen)
            if watch:
                watch_run(directory.folder)
            tracks = opened.enter_context(Tracks(directory.folder, chosen, wanted))

            def on_row(row: dict[str, Any]) -> None:
                progress.on_row(row)
                tracks.on_row(row)

            metrics = simulate(
                experiment,
                directory,
                workers=workers,
                on_row=on_row,
                resume=resume is not None,
                dry=dry,
                engine=engine.value,
                address=address,
                devices=devices,
            )
    except (KeyboardInterrupt, SystemExit):  # a signal; typer ends the process, without a word
        if directory is not None:
            err.print(f"cosp: interrupted; go on with: cosp run --resume {directory.folder}", soft_wrap=True)
        raise
    page = _drawn(directory.folder) if with_report else None
    tracks.finish([page] if page else [])
    if as_json:
        print(json.dumps(metrics))
    else:
        out.print(summary_table(metrics))
        print(f"report: {page or f'none yet: cosp report {directory.folder}'}")
    _use_model(directory.folder, export_to, inputs, data_dir=data_dir)


def _drawn(folder: Path) -> Path:
    """Draw the run's page and return where it is."""
    with err.status("drawing the report"):
        from cosp.report import write_report  # matplotlib takes a second to import: the first row should not wait

        return write_report([folder], folder / "report.html")


def _use_model(folder: Path, export_to: To | None, inputs: list[str] | None, *, data_dir: Path | None) -> None:
    """Export the run's model if that is asked for, and classify ``inputs`` with what was written, or with the run's."""
    model = folder
    if export_to is not None:
        model = folder / "export"
        say_written(written(folder, model, export_to, data_dir=data_dir))
    if inputs:
        say_predictions(model, inputs)


def _chosen(
    config: Path | None, resume: Path | None, overrides: list[str], *, anew: bool
) -> tuple[Config, RunDirectory | None]:
    """Return the configuration, and the directory of a run that goes on; UserError unless one of them is named.

    ``anew``: options beside ``overrides`` were given that a run that goes on does not take.
    """
    from cosp.config import load_config
    from cosp.run.directory import RunDirectory, config_of

    anew = anew or bool(overrides)
    check_begins_or_goes_on("run", config, resume, anew=anew, what="run", example="experiments/quickstart.yaml")
    if config is not None:
        return load_config(config, overrides), None
    assert resume is not None  # one of the two is
    return load_config(config_of(resume)), RunDirectory.reopen(resume)


def _check_afterwards(export_to: To | None, inputs: list[str] | None, *, dry: bool, as_json: bool) -> None:
    """UserError if what comes after the run does not go with how it runs or prints."""
    asked = [name for name, given in (("--export", export_to), ("--predict", inputs)) if given]
    unfit = [name for name, given in (("--dry", dry), ("--json", as_json)) if given]
    if asked and unfit:
        why = "trains no model" if dry else "prints the metrics alone"
        raise UserError(f"run: {unfit[0]} {why}: no {' and no '.join(asked)} beside it")


def _check_place(engine: EngineName, address: str | None, workers: int | None) -> None:
    """UserError where one option about who trains makes another one void."""
    if address is not None and engine is not EngineName.ray:
        raise UserError(f"--address {address}: is of a Ray cluster: add --engine ray, or leave it out")
    if workers is not None and engine is EngineName.inline:
        raise UserError(f"--workers {workers}: --engine inline has none, it trains in its own process: leave one out")


@app.command(epilog="Example: `cosp plan experiments/fashion_mnist_weak.yaml --data-dir DATA`")
def plan(config: ConfigPath, sets: Sets = None, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Show what each board would hold and what one task would cost it; nothing is trained.

    Of a stream: what answering and sending would cost it, and what leaves the boards.
    """
    lazily("torch")  # more than half of the time that a plan takes, and only fitted checkpoints need it

    from cosp.config import has_stream, load_config
    from cosp.experiment import load_experiment
    from cosp.planning.flower_share import flower_line
    from cosp.planning.plan import plan_rows
    from cosp.planning.table import plan_table

    if has_stream(config):
        plan_stream(config, sets or [], data_dir=data_dir, as_json=as_json)
        return
    with err.status("reading data"):
        chosen = load_config(config, sets or [])
        experiment = load_experiment(chosen, data_dir=data_dir)
        rows = plan_rows(experiment)
    print_notes(experiment.notes)
    say_caution(experiment)
    if as_json:
        print(json.dumps(rows))
    else:
        training = chosen.trains
        how = f", frozen parts held as {training.frozen_as}" if training.left.halves else ""
        how += ", checkpointing" if training.checkpointing else ""
        out.print(plan_table(rows, f"Submodels of {config}, assigned by {chosen.assignment.rule}{how}"))
        print_calibrations((row["board"], row["calibration"]) for row in rows)
        out.print(flower_line(rows), highlight=False)


@app.command(epilog="Example: `cosp report runs/a runs/b --out compare.html`")
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Run directories")],
    out_file: Annotated[Path | None, typer.Option("--out", help="Default: report.html in the first directory")] = None,
) -> None:
    """Write one HTML page for one run, or for several side by side."""
    from cosp.report import write_report
    from cosp.stream.page import write_page
    from cosp.stream.read import is_stream

    streams = [is_stream(run) for run in runs]
    if any(streams) and not all(streams):
        other = runs[streams.index(not streams[0])]
        raise UserError(f"report: {runs[0]} and {other}: one is a stream and one a training run; give those of a kind")
    with err.status("drawing the report"):
        path = (write_page if all(streams) else write_report)(runs, out_file or runs[0] / "report.html")
    print(path)
