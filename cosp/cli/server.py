"""The server's side of a deployment: server start, recipe, admit, nodes, remove, run, follow, stop, logs; doctor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cosp.cli import screen
from cosp.cli.screen import DataDir, Sets, err, free_folder, new_typer
from cosp.errors import UserError

if TYPE_CHECKING:
    from rich.table import Table

    from cosp.deployment.control import Control

app = new_typer()
server = typer.Typer(help="The server's side of a deployment.", no_args_is_help=True)
app.add_typer(server, name="server")

STATE = Path("cosp-state")
PORT = 8000
State = Annotated[Path, typer.Option(help="The server's folder: database, secrets; keep it private")]


@server.command("start", epilog="Example: `cosp server start --keys keys --state cosp-state`")
def server_start(
    state: State = STATE,
    keys: Annotated[Path | None, typer.Option(help="Folder that `cosp keys server` filled")] = None,
    host: Annotated[str, typer.Option(help="Address to listen at")] = "0.0.0.0",
    port: Annotated[int, typer.Option(min=1, max=65535)] = PORT,
    insecure: Annotated[bool, typer.Option("--insecure", help="No TLS, and every board may join")] = False,
) -> None:
    """Run SuperLink and SuperExec in the foreground; what dies is started again."""
    from cosp.deployment.certificate import check_certificate
    from cosp.deployment.superlink import flower_environment, home_of, make_state, server_services
    from cosp.deployment.supervise import supervise

    if (keys is None) != insecure:
        raise UserError("server start: give either --keys DIR (cosp keys server makes them) or --insecure")
    services = server_services(state, host=host, port=port, keys=keys)
    if keys is not None and (soon := check_certificate(keys)):
        err.print(f"cosp: {soon}", style="yellow", highlight=False, soft_wrap=True)
    make_state(state, port=port, keys=keys)
    supervise(services, flower_environment(home_of(state)))


@app.command(epilog="Example: `cosp doctor --state cosp-state`")
def doctor(state: State = STATE) -> None:
    """Say what of the server works and what does not, and what to do; 1 if something fails."""
    from cosp.deployment.doctor import server_findings

    findings = list(server_findings(state))
    for one in findings:
        print(one.line())
    raise typer.Exit(int(any(one.level == "failed" for one in findings)))


@server.command("recipe", epilog="Example: `cosp server recipe my.yaml --out recipe.json`")
def server_recipe(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="The experiment that the boards will take part in")],
    out: Annotated[Path, typer.Option(help="File to write")] = Path("recipe.json"),
    sets: Sets = None,
    data_dir: DataDir = None,
) -> None:
    """Write how the experiment's samples are made: boards make their stores by it, `python -m cosp.trainer store`."""
    from cosp.config import load_config
    from cosp.experiment import load_experiment
    from cosp.files import write_whole
    from cosp.run.recipe import recipe_of

    recipe = recipe_of(load_experiment(load_config(config, sets or []), data_dir=data_dir))
    try:
        write_whole(out, recipe.to_json())
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror or error}); give another --out") from None
    print(out)


@server.command("admit", epilog="Example: `cosp server admit keys/*.pub`")
def server_admit(
    public_keys: Annotated[list[Path], typer.Argument(metavar="KEY.pub...", help="Boards' public keys")],
    state: State = STATE,
) -> None:
    """Let boards in."""
    from cosp.deployment.control import Control

    control = Control(state)
    for path in public_keys:
        print(f"{path.stem}: {'admitted' if control.admit(path, path.stem) else 'was admitted already'}")


@server.command("nodes", epilog="Example: `cosp server nodes`")
def server_nodes(
    state: State = STATE, as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout")] = False
) -> None:
    """Show which boards are there."""
    import json

    from cosp.deployment.control import Control

    nodes = Control(state).nodes()
    if as_json:
        print(json.dumps(nodes))
    else:
        for node in nodes:
            print(f"{node['name'] or '-':<16}{node['status']:<12}{_since(node):<32}{node['node-id']:>20}")


def _since(node: dict[str, Any]) -> str:
    if node["online-at"] is None:
        return "was never online"
    word, at = ("since", node["online-at"]) if node["status"] == "online" else ("left", node["offline-at"])
    return f"{word} {(at or '?').replace('T', ' ')[:19]} UTC"


@server.command("remove", epilog="Example: `cosp server remove board-2`")
def server_remove(
    boards: Annotated[list[str], typer.Argument(metavar="BOARD...", help="Boards by name, see `cosp server nodes`")],
    state: State = STATE,
) -> None:
    """Let boards in no more: their keys are not accepted from now on, until they are admitted again."""
    from cosp.deployment.control import Control

    control = Control(state)
    for board in boards:
        print(f"{board}: removed (node {control.remove(board)})")


@server.command("stop", epilog="Example: `cosp server stop`")
def server_stop(state: State = STATE) -> None:
    """End the run that was started last; its last checkpoint stays, to go on from with `server run --resume`."""
    from cosp.config import has_stream
    from cosp.deployment.control import Control

    control = Control(state)
    run, config = control.last()
    status, _ = control.status(run)
    if status.startswith("finished"):
        raise UserError(f"server stop: run {run} is {status} already")
    control.stop(run)
    stream = has_stream(Path(config["config"]))
    again = "a stream begins anew each time" if stream else f"go on with: cosp server run --resume {config['out']}"
    print(f"run {run} ended; {again}")


@server.command("logs", epilog="Example: `cosp server logs`")
def server_logs(state: State = STATE) -> None:
    """Print what the ServerApp of the run that was started last says, until it ends; Ctrl-C stops printing."""
    from cosp.deployment.control import Control

    control = Control(state)
    run, _ = control.last()
    for text in control.logs(run):
        print(text, end="", flush=True)


@server.command("follow", epilog="Example: `cosp server follow`")
def server_follow(
    state: State = STATE,
    restarts: Annotated[int, typer.Option(min=0, help="How often to go on after a crash without a new version")] = 3,
) -> None:
    """Follow the run that was started last, as `server run` does, which Ctrl-C leaves at work."""
    from cosp.config import has_stream
    from cosp.deployment.control import Control
    from cosp.run.directory import config_of
    from cosp.stream.settings import load_adapt

    control = Control(state)
    run, run_config = control.last()
    folder = Path(run_config["out"])
    source = folder if (folder / "config.yaml").is_file() else None
    path = config_of(source) if source else Path(run_config["config"])
    if has_stream(path):
        _follow_stream(control, load_adapt(path).stream.until_s, run_config, folder, run=run)
        return
    _follow(control, path, [], run_config, folder, restarts=restarts, run=run)


@server.command("run", epilog="Examples: `cosp server run my.yaml --out runs/my` · `cosp server run --resume runs/my`")
def server_run(
    config: Annotated[Path | None, typer.Argument(metavar="CONFIG", help="A YAML file; not with --resume")] = None,
    out: Annotated[Path | None, typer.Option(help="Run directory; default runs/NAME")] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with the run in this directory")] = None,
    state: State = STATE,
    restarts: Annotated[int, typer.Option(min=0, help="How often to go on after a crash without a new version")] = 3,
    sets: Sets = None,
    data_dir: DataDir = None,
) -> None:
    """Train on the boards that are there, follow the run, go on from its checkpoint if its ServerApp dies."""
    from cosp.config import load_config
    from cosp.deployment.control import Control
    from cosp.run.directory import config_of

    if (config is None) == (resume is None) or (resume and (out or sets)):
        raise UserError("server run: give either CONFIG [--out DIR] [--set ...], or --resume DIR alone")
    path = config if config is not None else config_of(resume or Path())
    chosen = load_config(path, sets or [])
    folder = (resume or out or free_folder(Path("runs"), chosen.label)).absolute()
    run_config: dict[str, str | bool] = {
        "config": str(path.absolute()),
        "out": str(folder),
        "data-dir": str(data_dir.absolute()) if data_dir else "",
        "set": " ".join(f"'{text}'" for text in sets or []),
        "resume": resume is not None,
    }
    _follow(Control(state), path, sets or [], run_config, folder, restarts=restarts)


@server.command("adapt", epilog="Example: `cosp server adapt stream.yaml --out runs/adapted`")
def server_adapt(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML file with stream:, as for cosp adapt")],
    out: Annotated[Path | None, typer.Option(help="Run directory; default runs/NAME")] = None,
    state: State = STATE,
    sets: Sets = None,
    data_dir: DataDir = None,
) -> None:
    """Adapt the boards that are there to what they meet: samples go up, changes come down. Follow it to its end.

    Samples leave the boards whose owners gave their trainer a stream, and the server can read them. See
    docs/adaptation.md.
    """
    from cosp.deployment.control import Control
    from cosp.stream.deployed import open_deployed
    from cosp.stream.fitting import fitting_fleet
    from cosp.stream.planning import leaving_text
    from cosp.stream.real import check_for_boards
    from cosp.stream.settings import load_adapt

    chosen = load_adapt(config, sets or [])
    idle = check_for_boards(chosen)
    control = Control(state)
    folder = (out or free_folder(Path("runs"), chosen.label)).absolute()
    if (folder / "rows.jsonl").exists():
        raise UserError(
            f"{folder}: holds a run already, and on boards a stream begins anew each time; give another --out"
        )
    pretrained = Path(chosen.model.pretrained).absolute()
    fitting_fleet(chosen, open_deployed(pretrained, data_dir=data_dir))
    err.print(f"cosp: {leaving_text(chosen)}", style="yellow", highlight=False, soft_wrap=True)
    if idle:
        err.print(f"cosp: {', '.join(idle)}: of simulated boards; real ones bring their own stream", soft_wrap=True)
    given = [*(sets or []), f"model.pretrained={pretrained}"]
    run_config: dict[str, str | bool] = {
        "config": str(config.absolute()),
        "out": str(folder),
        "data-dir": str(data_dir.absolute()) if data_dir else "",
        "set": " ".join(f"'{text}'" for text in given),
        "resume": False,
    }
    _follow_stream(control, chosen.stream.until_s, run_config, folder)


def _follow_stream(
    control: Control, until_s: float, run_config: dict[str, str | bool], folder: Path, *, run: str | None = None
) -> None:
    """Start a stream, or follow ``run``, to its end; then write its report."""
    from cosp.deployment.submit import run_on_boards
    from cosp.stream.page import write_page
    from cosp.stream.progress import StreamProgress, summary_table
    from cosp.stream.written import where_text

    with _left_running(), StreamProgress(err, until_s, on_boards=True) as progress:
        metrics = run_on_boards(
            control,
            run_config,
            folder,
            restarts=0,
            on_row=progress.on_row,
            say=_say,
            run=run,
            resumes=False,
        )
    write_page([folder], folder / "report.html")
    _tell(summary_table(metrics, on_boards=True), folder)
    print(f"model: {where_text(folder, metrics['models'])}")


def _follow(
    control: Control,
    path: Path,
    sets: list[str],
    run_config: dict[str, str | bool],
    folder: Path,
    *,
    restarts: int,
    run: str | None = None,
) -> None:
    """Start a run, or follow ``run``, to its end; then write its report."""
    from cosp.config import load_config
    from cosp.console import RunProgress, summary_table
    from cosp.deployment.submit import run_on_boards
    from cosp.report import write_report
    from cosp.watch.table import BoardTable

    server = load_config(path, sets).server
    table = BoardTable(folder)
    below = table if err.is_terminal else None
    shown = RunProgress(err, server.versions, server.until_s, on_boards=True, below=below)
    with _left_running(), shown as progress:
        metrics = run_on_boards(
            control,
            run_config,
            folder,
            restarts=restarts,
            on_row=progress.on_row,
            say=_say,
            on_nodes=table.on_nodes,
            run=run,
        )
    write_report([folder], folder / "report.html")
    _tell(summary_table(metrics, on_boards=True), folder)


@contextmanager
def _left_running() -> Iterator[None]:
    """Say what whoever interrupts it leaves behind."""
    try:
        yield
    except KeyboardInterrupt:
        err.print("the run goes on; follow it again: cosp server follow; end it: cosp server stop")
        raise


def _say(line: str) -> None:
    err.print(line, highlight=False, soft_wrap=True)


def _tell(summary: Table, folder: Path) -> None:
    screen.out.print(summary)
    print(f"report: {folder / 'report.html'}")
