"""The command that shows a run while it goes on: watch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cosp.cli.screen import err, new_typer

app = new_typer()


@app.command(epilog="Example: `cosp watch runs/quickstart`")
def watch(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's directory, while it runs or after")],
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Default 8642, or a free one where that is taken")
    ] = None,
) -> None:
    """Serve a page, to this machine alone, that follows a run while it goes on."""
    from cosp.watch import Watch, check_run

    check_run(run)
    with Watch(run, port) as page:
        print(page.url, flush=True)
        err.print("open that in a browser of this machine; Ctrl-C ends it")
        page.wait()


def watch_run(folder: Path) -> None:
    """Follow a run of this process from a thread, which ends with the process."""
    from cosp.watch import Watch

    err.print(f"watch: {Watch(folder).url}", soft_wrap=True)
