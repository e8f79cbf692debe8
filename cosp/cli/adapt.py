"""The command of deployed boards: adapt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cosp.cli.screen import (
    DataDir,
    Json,
    Sets,
    WithReport,
    check_begins_or_goes_on,
    err,
    free_folder,
    new_typer,
    out,
)
from cosp.errors import UserError

if TYPE_CHECKING:  # a command imports what it needs when it is called
    from cosp.run.directory import RunDirectory
    from cosp.stream.settings import AdaptConfig

app = new_typer()

EXAMPLES = (
    "Examples: `cosp adapt experiments/adapt_digits.yaml` · `cosp adapt experiments/adapt_digits.yaml --set "
    "upload.rule=none --out runs/unadapted` · `cosp adapt --resume runs/adapt_digits`"
)


@app.command(epilog=EXAMPLES)
def adapt(
    config: Annotated[Path | None, typer.Argument(metavar="CONFIG", help="A YAML file; not with --resume")] = None,
    out_dir: Annotated[Path | None, typer.Option("--out", help="Run directory; default runs/NAME")] = None,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Worker processes; 0: none, this process itself; default one a core")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Override the seed")] = None,
    dry: Annotated[bool, typer.Option("--dry", help="Run the timeline only; nothing is answered or learned")] = False,
    resume: Annotated[Path | None, typer.Option(help="Go on with the stream in this directory")] = None,
    with_report: WithReport = True,
    sets: Sets = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Have a trained run's boards serve a stream that drifts: samples go up, the server adapts, changes come down.

    Samples leave the boards, and the server can read them. See docs/adaptation.md.
    """
    from cosp.run.directory import RunDirectory
    from cosp.simulation import forks
    from cosp.stream import checkpoint
    from cosp.stream.deployed import open_deployed
    from cosp.stream.dry import run_dry
    from cosp.stream.fitting import fitting_fleet
    from cosp.stream.planning import leaving_text
    from cosp.stream.progress import StreamProgress, summary_table
    from cosp.stream.simulate import simulate
    from cosp.stream.written import where_text

    overrides = [*(sets or []), *([f"seed={seed}"] if seed is not None else [])]
    chosen, directory = _chosen(config, resume, overrides, anew=out_dir is not None or dry)
    if workers != 0 and not dry:
        forks.start()
    try:
        with StreamProgress(err, chosen.stream.until_s) as progress:
            deployed = open_deployed(Path(chosen.model.pretrained), data_dir=data_dir)
            saved = None if directory is None else checkpoint.load(directory.checkpoints)
            if directory is None:
                fitting_fleet(chosen, deployed)  # what is wrong is said before anything is written
                directory = RunDirectory.create(out_dir or free_folder(Path("runs"), chosen.label), chosen)
            err.print(f"cosp: {leaving_text(chosen)}", style="yellow", highlight=False, soft_wrap=True)
            if dry:
                metrics: dict[str, Any] = run_dry(chosen, deployed, directory, on_row=progress.on_row)
            else:
                metrics = simulate(
                    chosen, deployed, directory, workers=workers, data_dir=data_dir, on_row=progress.on_row, saved=saved
                )
    except (KeyboardInterrupt, SystemExit):  # a signal; typer ends the process, without a word
        if directory is not None:
            err.print(f"cosp: interrupted; go on with: cosp adapt --resume {directory.folder}", soft_wrap=True)
        raise
    page = directory.folder / "report.html"
    if with_report:
        with err.status("drawing the report"):
            from cosp.stream.page import write_page  # matplotlib takes a second to import

            write_page([directory.folder], page)
    if as_json:
        print(json.dumps(metrics))
    else:
        out.print(summary_table(metrics))
        if not dry:
            print(f"model: {where_text(directory.folder, metrics['models'])}")
        print(f"report: {page if with_report else f'none yet: cosp report {directory.folder}'}")


def _chosen(
    config: Path | None, resume: Path | None, overrides: list[str], *, anew: bool
) -> tuple[AdaptConfig, RunDirectory | None]:
    """Return the configuration, and the directory of a stream that goes on; UserError unless one of them is named."""
    from cosp.run.directory import RunDirectory, config_of
    from cosp.stream.settings import load_adapt

    anew = anew or bool(overrides)
    check_begins_or_goes_on("adapt", config, resume, anew=anew, what="stream", example="experiments/adapt_digits.yaml")
    if config is not None:
        return load_adapt(config, overrides), None
    assert resume is not None  # one of the two is
    chosen, directory = load_adapt(config_of(resume)), RunDirectory.reopen(resume)
    if directory.is_dry():
        raise UserError(f"{resume}: is of a dry stream, which takes a minute and has no checkpoint: begin it anew")
    return chosen, directory


def plan_stream(config: Path, sets: list[str], *, data_dir: Path | None, as_json: bool) -> None:
    """Show what a stream would cost each board, and say what leaves it."""
    from cosp.stream import planning
    from cosp.stream.deployed import open_deployed
    from cosp.stream.settings import load_adapt

    with err.status("reading the run"):
        chosen = load_adapt(config, sets)
        rows = planning.plan_rows(chosen, open_deployed(Path(chosen.model.pretrained), data_dir=data_dir))
    err.print(f"cosp: {planning.leaving_text(chosen)}", style="yellow", highlight=False, soft_wrap=True)
    if as_json:
        print(json.dumps(rows))
    else:
        out.print(planning.stream_table(rows, f"Boards of {config}, which serve {chosen.model.pretrained}"))
