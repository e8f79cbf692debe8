"""Commands that make keys: keys server, keys node."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cosp.cli.screen import new_typer, print_paths

app = new_typer()
keys = typer.Typer(help="Make the keys of a deployment; private ones are written, never shown.", no_args_is_help=True)
app.add_typer(keys, name="keys")
KeysOut = Annotated[Path, typer.Option("--out", help="Where the keys are written")]


@keys.command("server", epilog="Example: `cosp keys server --host server.lan --host 192.168.1.10 --out keys`")
def keys_server(
    host: Annotated[
        list[str], typer.Option(help="A name or address by which boards reach the server; may be repeated")
    ],
    out: KeysOut = Path("keys"),
    days: Annotated[int, typer.Option(help="How long the server's certificate holds, at most 3650")] = 365,
) -> None:
    """Make the server's key and certificate, and the authority that signs it if there is none yet."""
    from cosp.deployment.keys import make_server_keys

    print_paths(make_server_keys(out, host, days=days))


@keys.command("node", epilog="Example: `cosp keys node board-0 board-1 --out keys`")
def keys_node(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Boards' names")], out: KeysOut = Path("keys")
) -> None:
    """Make a key for each board: NAME.key stays on the board, NAME.pub goes to the server."""
    from cosp.deployment.keys import make_node_keys

    print_paths(make_node_keys(out, names))
