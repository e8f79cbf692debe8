"""The command of deployed boards: adapt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from cosp.cli.screen import ConfigPath, DataDir, Json, Sets, WithReport, err, free_folder, new_typer, out

app = new_typer()

EXAMPLES = (
    "Examples: `cosp adapt experiments/adapt_digits.yaml` · `cosp adapt experiments/adapt_digits.yaml --set "
    "upload.rule=none --out runs/unadapted` · `cosp plan experiments/adapt_digits.yaml`"
)


@app.command(epilog=EXAMPLES)
def adapt(
    config: ConfigPath,
    out_dir: Annotated[Path | None, typer.Option("--out", help="Run directory; default runs/NAME")] = None,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Worker processes; 0: none, this process itself; default one a core")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Override the seed")] = None,
    with_report: WithReport = True,
    sets: Sets = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Have a trained run's boards serve a stream that drifts: samples go up, the server adapts, changes come down.

    Samples leave the boards, and the server can read them. See docs/adaptation.md.
    """
    from cosp.simulation import forks
    from cosp.stream.adapting import new_directory
    from cosp.stream.deployed import open_deployed
    from cosp.stream.planning import leaving_text
    from cosp.stream.progress import StreamProgress, summary_table
    from cosp.stream.settings import load_adapt
    from cosp.stream.simulate import simulate
    from cosp.stream.written import where_text

    chosen = load_adapt(config, [*(sets or []), *([f"seed={seed}"] if seed is not None else [])])
    folder = out_dir or free_folder(Path("runs"), chosen.label)
    if workers != 0:
        forks.start()
    with StreamProgress(err, chosen.stream.until_s) as progress:
        deployed = open_deployed(Path(chosen.model.pretrained), data_dir=data_dir)
        directory = new_directory(folder, chosen)
        err.print(f"cosp: {leaving_text(chosen)}", style="yellow", highlight=False, soft_wrap=True)
        metrics: dict[str, Any] = simulate(
            chosen, deployed, directory, workers=workers, data_dir=data_dir, on_row=progress.on_row
        )
    page = directory.folder / "report.html"
    if with_report:
        with err.status("drawing the report"):
            from cosp.stream.page import write_page  # matplotlib takes a second to import

            write_page([directory.folder], page)
    if as_json:
        print(json.dumps(metrics))
    else:
        out.print(summary_table(metrics))
        print(f"model: {where_text(directory.folder, metrics['models'])}")
        print(f"report: {page if with_report else f'none yet: cosp report {directory.folder}'}")


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
