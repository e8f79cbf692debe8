"""Commands about boards as files and about this machine: devices, calibrate."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cosp.cli.screen import Json, err, new_typer, out, print_calibrations, print_table

if TYPE_CHECKING:
    from cosp.fleet import DeviceProfile, Fact

app = new_typer()


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

    from cosp.calibration.calibrate import calibrate as measure
    from cosp.calibration.calibrate import cases
    from cosp.calibration.measured_profile import COLUMNS, TITLE, cells, profile_yaml, summary
    from cosp.files import check_writable, replace_text
    from cosp.fleet import load_profile

    if like is not None:
        load_profile(like)  # a wrong name is said now, not in a minute
    path = out_file or Path(f"{platform.node() or 'this-machine'}.yaml")
    check_writable(path)  # said now, not in a minute
    grid = cases()
    with Progress(console=err) as progress:
        bar = progress.add_task("timing training steps", total=repeats * len(grid))
        found = measure(grid, repeats=repeats, threads=threads, on_run=lambda: progress.advance(bar))
    print_table(TITLE, COLUMNS, cells(found), left=2)
    print(summary(found))
    replace_text(path, profile_yaml(found, threads=threads, like=like, today=datetime.date.today()))
    print(f"profile: {path}")


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
    print_table("Boards, in their default mode", ("name", "mode", "GFLOP/s", "memory", "training"), rows, left=2)
    print_calibrations((profile.name, profile.calibration) for profile in profiles)


def _show_board(name: str, as_json: bool) -> None:
    from cosp.fleet import describe

    board = describe(name)
    if as_json:
        print(json.dumps(asdict(board)))
        return
    columns = ("mode", "GFLOP/s", "mixed", "memory", "DRAM", "idle", "training")
    cells = [_mode_cells(p, default=p.mode == board.default_mode) for p in board.modes]
    print_table(f"{board.title} ({board.name}): {board.modes[0].calibration}", columns, cells, left=1)
    default = next(profile for profile in board.modes if profile.mode == board.default_mode)
    facts = [(fact.key, f"{fact.value:g}", _range_text(fact), fact.source) for fact in default.facts]
    print_table(f"Facts in mode {default.mode}", ("fact", "value", "low - high", "source"), facts, left=1)
    out.print(_expected(default), highlight=False)
    print_table("Sources", ("tag", "source"), board.sources, left=2)
    for note in board.notes:
        out.print(f"- {note}")


def _probe(root: Path, as_json: bool) -> None:
    from cosp.board.probe import advice, fact_cells, probe

    found = probe(root)
    if as_json:
        print(json.dumps(asdict(found)))
        return
    print_table("This machine", ("fact", "value"), fact_cells(found), left=2)
    out.print(advice(found), highlight=False, soft_wrap=True)


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
