"""The command that compares: table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cosp.cli.screen import ConfigPath, DataDir, Sets, err, new_typer
from cosp.errors import CospError, UserError

app = new_typer()

TABLE_EXAMPLES = (
    "Examples: `cosp table experiments/tables/digits.yaml` · "
    "`cosp table experiments/fashion_mnist_weak.yaml --data-dir DATA --seeds 0,1,2`"
)


@app.command(epilog=TABLE_EXAMPLES)
def table(
    config: ConfigPath,
    seeds: Annotated[
        str | None, typer.Option(help="Comma-separated; default those of the file's table section, or 0,1,2")
    ] = None,
    only: Annotated[
        str | None, typer.Option(help="Comma-separated variants; default all, and the base as 'base'")
    ] = None,
    at: Annotated[
        str | None, typer.Option(help="Comma-separated levels of the grid, e.g. fashion-skewed; default all")
    ] = None,
    out_dir: Annotated[Path | None, typer.Option("--out", help="Where runs and table go; default results/NAME")] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Runs at a time; default one a core, as far as memory allows")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Worker processes of one run; default none but its own")
    ] = None,
    no_run: Annotated[bool, typer.Option("--no-run", help="Tabulate what has results, of what was asked for")] = False,
    dry: Annotated[bool, typer.Option("--dry", help="Tabulate costs, by dry runs: memory, time, utilisation")] = False,
    sets: Sets = None,
    data_dir: DataDir = None,
) -> None:
    """Run every variant of CONFIG with every seed that has no result yet, then write the table (csv, md) and figures.

    A file with a `table:` section says itself what to run, search and compare; see docs/tables.md.
    """
    from cosp.simulation.simulate import default_workers
    from cosp.tables import has_table
    from cosp.tables.costs import fill_cost_table
    from cosp.tables.fill import fill_tables
    from cosp.tables.plain import fill_table
    from cosp.tables.running import default_jobs

    try:
        numbers = [int(text) for text in seeds.split(",")] if seeds else None
    except ValueError:
        raise UserError(f"--seeds {seeds}: must be comma-separated whole numbers, e.g. 0,1,2") from None
    if numbers and (min(numbers) < 0 or len(set(numbers)) < len(numbers)):
        raise UserError(f"--seeds {seeds}: must be different numbers from 0 on, e.g. 0,1,2")
    asked: dict[str, Any] = {
        "only": only.split(",") if only else None,
        "folder": out_dir,
        "overrides": sets or [],
        "data_dir": data_dir,
        "console": err,
    }
    failed: dict[str, str] = {}
    levels = at.split(",") if at else None
    if dry and no_run:
        raise UserError("--no-run: --dry keeps no results that a table could be made of; leave one of them out")
    if not dry and not has_table(config):
        _refuse_options_of_a_section(config, at, no_run)
    try:
        if dry:
            written, failed = fill_cost_table(config, seeds=numbers, at=levels, **asked)
        elif has_table(config):
            at_once = 0 if no_run else jobs or default_jobs()
            written, failed = fill_tables(config, seeds=numbers, at=levels, jobs=at_once, workers=workers or 0, **asked)
        else:
            count = workers or default_workers()
            written, failed = fill_table(config, seeds=numbers or [0, 1, 2], workers=count, **asked)
    except (KeyboardInterrupt, SystemExit):  # a signal; typer ends the process, without a word
        err.print("cosp: interrupted; runs that have ended are kept; go on with: the same command", soft_wrap=True)
        raise
    print(written.read_text(encoding="utf-8"))
    print(f"table: {written}")
    if failed:
        raise CospError(f"{len(failed)} of the runs failed; the table is without them: {', '.join(failed)}")


def _refuse_options_of_a_section(path: Path, at: str | None, no_run: bool) -> None:
    """UserError for what only a file with a section ``table:`` can be asked."""
    if at:
        raise UserError(f"--at {at}: {path} has no grid; leave --at out")
    if no_run:
        raise UserError(f"--no-run: {path} keeps no results that a table could be made of; leave it out")
