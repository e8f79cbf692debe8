"""A board's side of a deployment: client, trainer, store. None of them but the last needs torch to begin."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from cosp.cli.screen import DataDir, Sets, new_typer, print_notes, print_paths
from cosp.errors import UserError

app = new_typer()

SOCKET = Path("/run/cosp/trainer.sock")
HOME = Path.home() / ".cosp" / "flwr"
NODE_PORT = 9094
ADDRESS = re.compile(r"([\w.-]+|\[[^\s\[\]]+\]):([0-9]{1,5})", re.ASCII)

Socket = Annotated[Path, typer.Option("--socket", help="The trainer's Unix socket")]


@app.command(epilog="Example: `cosp client --server server.lan:8000 --ca ca.crt --key board-0.key --number 0`")
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
    check: Annotated[
        bool, typer.Option("--check", help="Say what works and what does not, and start nothing; 1 if something fails")
    ] = False,
) -> None:
    """Run this board's SuperNode in the foreground: it takes tasks from the server and hands them to the trainer."""
    import os
    import threading

    from cosp.board.probe import probe
    from cosp.deployment.checks import Ways, client_findings, failures
    from cosp.deployment.superlink import client_service, flower_environment
    from cosp.deployment.supervise import say, supervise

    match = ADDRESS.fullmatch(address)
    if not match or not 1 <= int(match[2]) <= 65535:
        raise UserError(f"client: --server {address!r:.80}: must be HOST:PORT, e.g. server.lan:8000, port 1..65535")
    if insecure == (ca is not None and key is not None) or (insecure and (ca or key)):
        raise UserError("client: give --ca ca.crt and --key NAME.key (cosp keys node makes it), or --insecure alone")
    for path in filter(None, (ca, key)):
        if not path.is_file():
            raise UserError(f"client: {path}: is no file; ca.crt comes from the server, cosp keys node makes the key")
    if keep is not None and not 0 < keep <= 1:
        raise UserError(f"client: --keep {keep}: must lie in (0, 1]")
    host = match[1].strip("[]")
    environment = flower_environment(home, host)
    os.environ.update({name: environment[name] for name in ("no_proxy", "NO_PROXY")})
    ways = Ways(host=host, port=int(match[2]), ca=ca, key=key, trainer=trainer)
    if check:
        findings = list(client_findings(ways))
        for one in findings:
            print(one.line())
        raise typer.Exit(int(any(one.level == "failed" for one in findings)))
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

    def say_failures() -> None:
        for line in failures(ways):
            say(line)

    threading.Thread(target=say_failures, daemon=True).start()
    supervise([service], environment, why=lambda: failures(ways))


@app.command(epilog="Example: `cosp trainer --data store --socket /run/cosp/trainer.sock`")
def trainer(
    data: Annotated[Path | None, typer.Option(metavar="STORE", help="The board's data: `cosp store` makes it")] = None,
    socket: Socket = SOCKET,
    threads: Annotated[int | None, typer.Option(min=1, help="Torch's threads; default as torch chooses")] = None,
    limit_bytes: Annotated[int, typer.Option(min=1, help="Refuse tasks with more weights")] = 4 << 30,
    stream: Annotated[
        Path | None,
        typer.Option(
            metavar="SOURCE",
            help="Answer this for a server that asks: a folder of images, an .npz; samples leave the board then",
        ),
    ] = None,
    health: Annotated[bool, typer.Option("--health", help="Print what the trainer there says; exit 1 if none")] = False,
) -> None:
    """Keep a board's data, torch and its GPU warm and do the tasks that come in through a Unix socket."""
    from cosp.trainer.__main__ import health as ask
    from cosp.trainer.__main__ import train

    if health:
        raise typer.Exit(ask(socket))
    train(data, socket, threads, limit_bytes, stream)


@app.command(epilog="Examples: `cosp store my.yaml --out stores` · `cosp store my.yaml --own photos --out store`")
def store(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="The experiment that the boards will take part in")],
    out: Annotated[Path, typer.Option(help="Folder to write: a store, or with shares one a client, named 0, 1, ...")],
    own: Annotated[
        str | None, typer.Option(help="A board's own samples: a folder, an .npz, a .csv of texts, any data set's name")
    ] = None,
    sets: Sets = None,
    data_dir: DataDir = None,
) -> None:
    """Write what a trainer reads: a board's own samples, or the share that CONFIG's partition gives each board."""
    from cosp.config import load_config
    from cosp.deployment.store import own_source, refuse_inside_data, write_own, write_shares
    from cosp.experiment import load_experiment

    experiment = load_experiment(load_config(config, sets or []), data_dir=data_dir)
    refuse_inside_data(out, experiment.config.data.name, own)
    print_notes(experiment.notes)
    source = None if own is None else own_source(experiment, own, data_dir)
    print_notes(() if source is None else source.notes)
    try:
        print_paths(write_shares(experiment, out) if source is None else [write_own(experiment, source, out)])
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror or error}); give another --out") from None
