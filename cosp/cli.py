"""The command line. Progress goes to stderr, tables, JSON and paths to stdout.

Exit codes: 0 success; 2 the user gave something unusable (one line says what); 1 anything else.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import click
import typer
from click.exceptions import NoArgsIsHelpError
from rich import box
from rich.console import Console
from rich.table import Table

from cosp import cli_boards
from cosp.errors import CospError, UserError

if TYPE_CHECKING:
    from cosp.fleet import DeviceProfile, Fact

app = typer.Typer(
    help="Train one transformer on many weak, unequal boards.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
out = Console(markup=False, emoji=False)  # names and titles are the user's and are shown as they are
err = Console(markup=False, emoji=False, stderr=True)

ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML file, e.g. experiments/quickstart.yaml")]
DataDir = Annotated[
    Path | None, typer.Option("--data-dir", envvar="COSP_DATA_DIR", help="Where data sets lie (mnist/, cifar10/, ...)")
]
Sets = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override one key; may be given often")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout")]


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
    dry: Annotated[bool, typer.Option("--dry", help="Run the timeline only; nothing is trained")] = False,
    resume: Annotated[Path | None, typer.Option(help="Go on with the run in this directory")] = None,
    sets: Sets = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Train a simulated fleet; write rows, metrics and a report."""
    from cosp.config import load_config
    from cosp.console import RunProgress, summary_table
    from cosp.experiment import load_experiment
    from cosp.report import write_report
    from cosp.runtime import forks
    from cosp.runtime.rundir import RunDirectory, config_of
    from cosp.runtime.simulate import default_workers, simulate

    overrides = [*(sets or []), *([f"seed={seed}"] if seed is not None else [])]
    if (config is None) == (resume is None):
        raise UserError("run: give either CONFIG or --resume DIR, e.g. cosp run experiments/quickstart.yaml")
    if resume is not None:
        if overrides or out_dir or dry:
            raise UserError("run: --resume goes on with a run as it is: no --set, --seed, --out or --dry beside it")
        chosen = load_config(config_of(resume))
        directory = RunDirectory(resume)
        dry = directory.is_dry()
    else:
        assert config is not None
        chosen = load_config(config, overrides)
        directory = None
    if not dry:
        forks.start()
    try:
        with RunProgress(err, chosen.server.versions, chosen.server.until_s) as progress:
            experiment = load_experiment(chosen, data_dir=data_dir)
            if directory is None:
                directory = RunDirectory.create(out_dir or free_folder(Path("runs"), chosen.label), chosen)
            count = workers or default_workers()
            metrics = simulate(
                experiment, directory, workers=count, on_row=progress.on_row, resume=resume is not None, dry=dry
            )
    except KeyboardInterrupt:  # typer ends the process, without a word
        if directory is not None:
            err.print(f"cosp: interrupted; go on with: cosp run --resume {directory.folder}", soft_wrap=True)
        raise
    with err.status("drawing the report"):
        report_path = write_report([directory.folder], directory.folder / "report.html")
    if as_json:
        print(json.dumps(metrics))
    else:
        out.print(summary_table(metrics))
        print(f"report: {report_path}")


@app.command(epilog="Example: `cosp plan experiments/fashion_mnist_weak.yaml --data-dir DATA`")
def plan(config: ConfigPath, sets: Sets = None, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Show what each board would hold and what one task would cost it; nothing is trained."""
    from cosp.config import load_config
    from cosp.experiment import load_experiment
    from cosp.plan_table import plan_table
    from cosp.planning import plan_rows

    with err.status("reading data"):
        chosen = load_config(config, sets or [])
        rows = plan_rows(load_experiment(chosen, data_dir=data_dir))
    if as_json:
        print(json.dumps(rows))
    else:
        out.print(plan_table(rows, f"Submodels of {config}, assigned by {chosen.assignment.rule}"))
        _print_calibrations((row["board"], row["calibration"]) for row in rows)


@app.command(epilog="Examples: `cosp devices` · `cosp devices jetson-orin-nano-8` · `cosp devices probe`")
def devices(
    name: Annotated[
        str | None, typer.Argument(help="A board, the path of your own YAML file, or `probe`: what is this machine?")
    ] = None,
    root: Annotated[
        Path, typer.Option(envvar="COSP_ROOT", help="With probe: where the board's files begin; /host in our images")
    ] = Path("/"),
    as_json: Json = False,
) -> None:
    """List the boards that cosp knows, show one with its modes, facts and sources, or say what this machine is."""
    if name == "probe":
        _probe(root, as_json)
    elif name is None:
        _list_boards(as_json)
    else:
        _show_board(name, as_json)


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
    from cosp.cost_table import fill_cost_table
    from cosp.runtime.simulate import default_workers
    from cosp.table import fill_table
    from cosp.tables import has_table
    from cosp.tables.fill import fill_tables
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
    if dry or not has_table(config):
        _refuse_options_of_a_section("--dry" if dry else str(config), at, no_run)
    if dry:
        written = fill_cost_table(config, seeds=numbers or [0, 1, 2], **asked)
    elif has_table(config):
        levels, at_once = at.split(",") if at else None, 0 if no_run else jobs or default_jobs()
        written, failed = fill_tables(config, seeds=numbers, at=levels, jobs=at_once, workers=workers or 0, **asked)
    else:
        written = fill_table(config, seeds=numbers or [0, 1, 2], workers=workers or default_workers(), **asked)
    print(written.read_text(encoding="utf-8"))
    print(f"table: {written}")
    if failed:
        raise CospError(f"{len(failed)} of the runs failed; the table is without them: {', '.join(failed)}")


@app.command(epilog="Examples: `cosp calibrate` · `cosp calibrate --threads 4 --like raspberry-pi-5 --out my-pi.yaml`")
def calibrate(
    out_file: Annotated[
        Path | None, typer.Option("--out", help="The profile to write; default HOST.yaml here; replaced if it is there")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Torch threads that training will use")] = 1,
    repeats: Annotated[int, typer.Option(min=1, help="Runs of each plan; medians are taken")] = 5,
    like: Annotated[str | None, typer.Option(help="The board whose watts to carry over: they are not measured")] = None,
) -> None:
    """Time real training steps on this machine, fit the cost model to them, and write a measured profile."""
    import datetime
    import platform

    from rich.progress import Progress

    from cosp.calibrate import calibrate as measure
    from cosp.calibrate import cases
    from cosp.files import replace_text
    from cosp.fleet import load_profile
    from cosp.measured_profile import COLUMNS, TITLE, cells, profile_yaml, summary

    if like is not None:
        load_profile(like)  # a wrong name is said now, not in a minute
    grid = cases()
    with Progress(console=err) as progress:
        bar = progress.add_task("timing training steps", total=repeats * len(grid))
        found = measure(grid, repeats=repeats, threads=threads, on_run=lambda: progress.advance(bar))
    _print_table(TITLE, COLUMNS, cells(found), left=2)
    print(summary(found))
    path = out_file or Path(f"{platform.node() or 'this-machine'}.yaml")
    replace_text(path, profile_yaml(found, threads=threads, like=like, today=datetime.date.today()))
    print(f"profile: {path}")


@app.command(epilog="Example: `cosp report runs/a runs/b --out compare.html`")
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Run directories")],
    out_file: Annotated[Path | None, typer.Option("--out", help="Default: report.html in the first directory")] = None,
) -> None:
    """Write one HTML page for one run, or for several side by side."""
    from cosp.report import write_report

    with err.status("drawing the report"):
        path = write_report(runs, out_file or runs[0] / "report.html")
    print(path)


cli_boards.add_to(app)


def _refuse_options_of_a_section(what: str, at: str | None, no_run: bool) -> None:
    """UserError for what only a file with a section ``table:`` can be asked, and ``--dry`` cannot."""
    if at:
        raise UserError(f"--at {at}: {what} has no grid; leave --at out")
    if no_run:
        raise UserError(f"--no-run: {what} keeps no results that a table could be made of; leave it out")


def free_folder(parent: Path, name: str) -> Path:
    """Return ``parent/name``, or the first of ``parent/name-2``, ``-3`` ... that does not exist yet."""
    candidates = (parent / (name if n == 1 else f"{name}-{n}") for n in range(1, 1_000_000))
    return next(path for path in candidates if not path.exists())


def main() -> None:
    """Run the command line; errors that a person can mend are one line and exit code 2."""
    try:
        sys.exit(app(prog_name="cosp", standalone_mode=False))
    except NoArgsIsHelpError as error:
        error.show()
        sys.exit(2)
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "cosp"
        _say(f"{error.format_message().rstrip('.')}; see {command} --help")
        sys.exit(2)
    except UserError as error:
        _say(" ".join(str(error).splitlines()))  # a value may hold line breaks
        sys.exit(2)
    except CospError as error:
        _say(str(error))
        sys.exit(1)


def _say(error: str) -> None:
    err.print(f"cosp: {error}", style="red", highlight=False, soft_wrap=True)


def _list_boards(as_json: bool) -> None:
    from cosp.fleet import load_profile, profile_names

    profiles = [load_profile(name) for name in profile_names()]
    if as_json:
        print(json.dumps([asdict(profile) for profile in profiles]))
        return
    rows = []  # narrow enough for 80 columns: a name that is cut cannot be asked for
    for profile in profiles:
        gflops, memory, _, _, training = _figures(profile)
        rows.append((profile.name, profile.mode, gflops, memory, training))
    _print_table("Boards, in their default mode", ("name", "mode", "GFLOP/s", "memory", "training"), rows, left=2)
    _print_calibrations((profile.name, profile.calibration) for profile in profiles)


def _show_board(name: str, as_json: bool) -> None:
    from cosp.fleet import describe

    board = describe(name)
    if as_json:
        print(json.dumps(asdict(board)))
        return
    columns = ("mode", "GFLOP/s", "mixed", "memory", "DRAM", "idle", "training")
    cells = [_mode_cells(p, default=p.mode == board.default_mode) for p in board.modes]
    _print_table(f"{board.title} ({board.name}): {board.modes[0].calibration}", columns, cells, left=1)
    default = next(profile for profile in board.modes if profile.mode == board.default_mode)
    facts = [(fact.key, f"{fact.value:g}", _range_text(fact), fact.source) for fact in default.facts]
    _print_table(f"Facts in mode {default.mode}", ("fact", "value", "low - high", "source"), facts, left=1)
    out.print(_expected(default), highlight=False)
    _print_table("Sources", ("tag", "source"), board.sources, left=2)
    for note in board.notes:
        out.print(f"- {note}")


def _probe(root: Path, as_json: bool) -> None:
    from cosp.fleet.probe import advice, fact_cells, probe

    found = probe(root)
    if as_json:
        print(json.dumps(asdict(found)))
        return
    _print_table("This machine", ("fact", "value"), fact_cells(found), left=2)
    out.print(advice(found), highlight=False, soft_wrap=True)


def _print_calibrations(boards: Iterable[tuple[str, str]]) -> None:
    from cosp.console import calibration_lines

    for line in calibration_lines(boards):
        out.print(line, highlight=False)


def _range_text(fact: Fact) -> str:
    if fact.low is None and fact.high is None:
        return ""
    low, high = (fact.value if end is None else end for end in (fact.low, fact.high))
    return f"{low:g} - {high:g}"


def _expected(profile: DeviceProfile) -> str:
    """Say between what the profile's rates are expected to lie."""
    spread = profile.spread
    gflops, half, gb_s, launch_us = (
        " to ".join(f"{value * factor:.3g}" for factor in factors)
        for value, factors in (
            (profile.flops_per_s / 1e9, spread.flops_per_s),
            ((profile.half_flops_per_s or 0.0) / 1e9, spread.half_flops_per_s),
            (profile.memory_bytes_per_s / 1e9, spread.memory_bytes_per_s),
            (profile.launch_s * 1e6, spread.launch_s),
        )
    )
    mixed = f" ({half} in mixed precision)" if profile.half_flops_per_s else ""
    return (
        f"Expected between: {gflops} GFLOP/s sustained{mixed}, {gb_s} GB/s of DRAM, {launch_us} us a kernel launch.\n"
    )


def _figures(profile: DeviceProfile) -> tuple[str, ...]:
    from cosp.console import bytes_text

    return (
        _gflops_text(profile.flops_per_s),
        bytes_text(profile.memory_bytes),
        f"{bytes_text(profile.memory_bytes_per_s)}/s",
        f"{profile.idle_w:g} W",
        f"{profile.load_w:.1f} W",
    )


def _mode_cells(profile: DeviceProfile, *, default: bool) -> tuple[str, ...]:
    gflops, *others = _figures(profile)
    half = profile.half_flops_per_s
    mixed = _gflops_text(half) if half else "unknown" if profile.gpu else "-"
    return profile.mode + (" (default)" if default else ""), gflops, mixed, *others


def _gflops_text(flops_per_s: float) -> str:
    gflops = flops_per_s / 1e9
    return f"{gflops:,.0f}" if gflops >= 10 else f"{gflops:.2f}"


def _print_table(title: str, columns: tuple[str, ...], rows: Iterable[tuple[str, ...]], *, left: int) -> None:
    """Print a table whose first ``left`` columns are text and whose others are figures."""
    found = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for i, column in enumerate(columns):
        found.add_column(column, justify="left" if i < left else "right", no_wrap=i != len(columns) - 1 or left != 2)
    for row in rows:
        found.add_row(*row)
    out.print(found)


if __name__ == "__main__":
    main()
