"""Commands for real boards: keys, server, client, trainer, stores. None of them but the last needs torch to begin."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from cosp.errors import UserError

keys = typer.Typer(help="Make the keys of a deployment; private ones are written, never shown.", no_args_is_help=True)
server = typer.Typer(help="The server's side of a deployment.", no_args_is_help=True)

STATE = Path("cosp-state")
SOCKET = Path("/run/cosp/trainer.sock")
HOME = Path.home() / ".cosp" / "flwr"
PORT, NODE_PORT = 8000, 9094
ADDRESS = re.compile(r"([\w.-]+|\[[^\s\[\]]+\]):([0-9]{1,5})", re.ASCII)

State = Annotated[Path, typer.Option(help="The server's folder: database, secrets; keep it private")]
KeysOut = Annotated[Path, typer.Option("--out", help="Where the keys are written")]
Socket = Annotated[Path, typer.Option("--socket", help="The trainer's Unix socket")]
DataDir = Annotated[Path | None, typer.Option("--data-dir", envvar="COSP_DATA_DIR", help="Where data sets lie")]
Sets = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override one key of CONFIG")]


@keys.command("server", epilog="Example: `cosp keys server --host server.lan --host 192.168.1.10 --out keys`")
def keys_server(
    host: Annotated[
        list[str], typer.Option(help="A name or address by which boards reach the server; may be repeated")
    ],
    out: KeysOut = Path("keys"),
    days: Annotated[int, typer.Option(help="How long the server's certificate holds, at most 3650")] = 365,
) -> None:
    """Make the server's key and certificate, and the authority that signs it if there is none yet."""
    from cosp.runtime.keys import make_server_keys

    _print_paths(make_server_keys(out, host, days=days))


@keys.command("node", epilog="Example: `cosp keys node board-0 board-1 --out keys`")
def keys_node(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Boards' names")], out: KeysOut = Path("keys")
) -> None:
    """Make a key for each board: NAME.key stays on the board, NAME.pub goes to the server."""
    from cosp.runtime.keys import make_node_keys

    _print_paths(make_node_keys(out, names))


@server.command("start", epilog="Example: `cosp server start --keys keys --state cosp-state`")
def server_start(
    state: State = STATE,
    keys: Annotated[Path | None, typer.Option(help="Folder that `cosp keys server` filled")] = None,
    host: Annotated[str, typer.Option(help="Address to listen at")] = "0.0.0.0",
    port: Annotated[int, typer.Option(min=1, max=65535)] = PORT,
    insecure: Annotated[bool, typer.Option("--insecure", help="No TLS, and every board may join")] = False,
) -> None:
    """Run SuperLink and SuperExec in the foreground; what dies is started again."""
    from cosp.runtime.superlink import flower_environment, home_of, make_state, server_services
    from cosp.runtime.supervise import supervise

    if (keys is None) != insecure:
        raise UserError("server start: give either --keys DIR (cosp keys server makes them) or --insecure")
    services = server_services(state, host=host, port=port, keys=keys)
    make_state(state, port=port, keys=keys)
    supervise(services, flower_environment(home_of(state)))


@server.command("admit", epilog="Example: `cosp server admit keys/*.pub`")
def server_admit(
    public_keys: Annotated[list[Path], typer.Argument(metavar="KEY.pub...", help="Boards' public keys")],
    state: State = STATE,
) -> None:
    """Let boards in."""
    from cosp.runtime.control import Control

    control = Control(state)
    for path in public_keys:
        print(f"{path.stem}: {'admitted' if control.admit(path, path.stem) else 'was admitted already'}")


@server.command("nodes", epilog="Example: `cosp server nodes`")
def server_nodes(
    state: State = STATE, as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout")] = False
) -> None:
    """Show which boards are there."""
    import json

    from cosp.runtime.control import Control

    nodes = Control(state).nodes()
    if as_json:
        print(json.dumps(nodes))
    else:
        for node in nodes:
            print(f"{node['node-id']:>20}  {node['status']:<10}  online since {node['online-at']}")


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
    from cosp import cli
    from cosp.config import load_config
    from cosp.console import RunProgress, summary_table
    from cosp.report import write_report
    from cosp.runtime.control import Control
    from cosp.runtime.rundir import config_of
    from cosp.runtime.submit import run_on_boards

    if (config is None) == (resume is None) or (resume and (out or sets)):
        raise UserError("server run: give either CONFIG [--out DIR] [--set ...], or --resume DIR alone")
    path = config if config is not None else config_of(resume or Path())
    chosen = load_config(path, sets or [])
    folder = (resume or out or cli.free_folder(Path("runs"), chosen.label)).absolute()
    run_config: dict[str, str | bool] = {
        "config": str(path.absolute()),
        "out": str(folder),
        "data-dir": str(data_dir.absolute()) if data_dir else "",
        "set": " ".join(f"'{text}'" for text in sets or []),
        "resume": resume is not None,
    }
    with RunProgress(cli.err, chosen.server.versions, chosen.server.until_s) as progress:
        metrics = run_on_boards(
            Control(state), run_config, folder, restarts=restarts, on_row=progress.on_row, say=cli.err.print
        )
    write_report([folder], folder / "report.html")
    cli.out.print(summary_table(metrics))
    print(f"report: {folder / 'report.html'}")


def client(
    address: Annotated[str, typer.Option("--server", metavar="HOST:PORT", help="The server")],
    number: Annotated[int, typer.Option(min=0, help="Which client this board is; 0, 1, ... each once")],
    ca: Annotated[Path | None, typer.Option(help="The authority's certificate, ca.crt")] = None,
    key: Annotated[Path | None, typer.Option(help="This board's private key, NAME.key")] = None,
    trainer: Annotated[Path, typer.Option(help="The trainer's Unix socket")] = SOCKET,
    board: Annotated[str | None, typer.Option(help="The board's name in rows and reports; default as detected")] = None,
    keep: Annotated[float | None, typer.Option(help="Share of the model's parameters; default what fits")] = None,
    memory_bytes: Annotated[
        int | None, typer.Option(min=1, help="What a task may take; default by the board's profile, else all")
    ] = None,
    root: Annotated[
        Path, typer.Option(envvar="COSP_ROOT", help="Where the board's files begin, for its detection")
    ] = Path("/"),
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="Local port of the SuperNode, another for each on a host")
    ] = NODE_PORT,
    home: Annotated[Path, typer.Option(help="Where Flower keeps the app's code")] = HOME,
    insecure: Annotated[bool, typer.Option("--insecure", help="No TLS and no key: trust whoever answers")] = False,
) -> None:
    """Run this board's SuperNode in the foreground: it takes tasks from the server and hands them to the trainer."""
    from cosp.fleet.probe import probe
    from cosp.runtime.superlink import client_service, flower_environment
    from cosp.runtime.supervise import supervise

    match = ADDRESS.fullmatch(address)
    if not match or not 1 <= int(match[2]) <= 65535:
        raise UserError(f"client: --server {address!r:.80}: must be HOST:PORT, e.g. server.lan:{PORT}, port 1..65535")
    if insecure == (ca is not None and key is not None) or (insecure and (ca or key)):
        raise UserError("client: give --ca ca.crt and --key NAME.key (cosp keys node makes it), or --insecure alone")
    for path in filter(None, (ca, key)):
        if not path.is_file():
            raise UserError(f"client: {path}: is no file; ca.crt comes from the server, cosp keys node makes the key")
    if keep is not None and not 0 < keep <= 1:
        raise UserError(f"client: --keep {keep}: must lie in (0, 1]")
    found = probe(root)
    node: dict[str, str | int | float | None] = {
        "partition-id": number,
        "trainer-socket": str(trainer.absolute()),
        "board": board or found.board,
        "keep": keep,
        "memory-bytes": memory_bytes or found.training_bytes,
    }
    config = {name: value for name, value in node.items() if value is not None}
    service = client_service(address, authority=ca, key=key, port=port, config=config)
    supervise([service], flower_environment(home))


def trainer(
    data: Annotated[Path | None, typer.Option(metavar="STORE", help="The board's data: `cosp store` makes it")] = None,
    socket: Socket = SOCKET,
    threads: Annotated[int | None, typer.Option(min=1, help="Torch's threads; default as torch chooses")] = None,
    limit_bytes: Annotated[int, typer.Option(min=1, help="Refuse tasks with more weights")] = 4 << 30,
    health: Annotated[bool, typer.Option("--health", help="Print what the trainer there says; exit 1 if none")] = False,
) -> None:
    """Keep a board's data, torch and its GPU warm and do the tasks that come in through a Unix socket."""
    from cosp.trainer import health as ask
    from cosp.trainer import train

    if health:
        raise typer.Exit(ask(socket))
    train(data, socket, threads, limit_bytes)


def store(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="The experiment that the boards will take part in")],
    out: Annotated[Path, typer.Option(help="Folder to write: a store, or with shares one a client, named 0, 1, ...")],
    own: Annotated[
        str | None, typer.Option(help="A board's own images: a folder, an .npz, any data set's name")
    ] = None,
    sets: Sets = None,
    data_dir: DataDir = None,
) -> None:
    """Write what a trainer reads: a board's own images, or the share that CONFIG's partition gives each board."""
    from cosp.config import load_config
    from cosp.data.sources import read_source
    from cosp.experiment import load_experiment
    from cosp.store import write_own, write_shares

    experiment = load_experiment(load_config(config, sets or []), data_dir=data_dir)
    size = experiment.config.data.image_size
    source = None if own is None else read_source(own, data_dir=data_dir, image_size=size)
    try:
        _print_paths(write_shares(experiment, out) if source is None else [write_own(experiment, source, out)])
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror or error}); give another --out") from None


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.add_typer(keys, name="keys")
    app.add_typer(server, name="server")
    app.command(epilog="Example: `cosp client --server server.lan:8000 --ca ca.crt --key board-0.key --number 0`")(
        client
    )
    app.command(epilog="Example: `cosp trainer --data store --socket /run/cosp/trainer.sock`")(trainer)
    app.command(epilog="Examples: `cosp store my.yaml --out stores` · `cosp store my.yaml --own photos --out store`")(
        store
    )


def _print_paths(paths: list[Path]) -> None:
    for path in paths:
        print(path)
