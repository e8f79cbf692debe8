"""Commands of trained models: export, predict, evaluate."""

from __future__ import annotations

import json
import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cosp.cli.screen import DataDir, Json, err, new_typer

app = new_typer()


class To(StrEnum):
    """What a model is exported to."""

    HF = "hf"
    ONNX = "onnx"
    TORCH = "torch"


AtExit = Annotated[int | None, typer.Option("--exit", min=1, metavar="K", help="The exit after block K")]


@app.command(
    epilog="Examples: `cosp export runs/quickstart --out model --to onnx` · `cosp export runs/a --out small --to torch "
    "--board 3 --exit 2`"
)
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The directory of a run that has ended")],
    out_dir: Annotated[Path, typer.Option("--out", metavar="DIR", help="A folder that is not there yet")],
    to: Annotated[To, typer.Option("--to", help="For transformers, for onnxruntime, for torch alone")],
    after: AtExit = None,
    board: Annotated[int | None, typer.Option(min=0, metavar="N", help="The submodel of this client")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="One size of batches; default any")] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Write a run's model for use without cosp, and check that it says what the run said.

    Without --exit it ends with the exit that did best on validation data; onnx and torch hold those before it, too.
    """
    from cosp.experiment import single_thread
    from cosp.export.write import export as write

    single_thread()
    with err.status("exporting"):
        found = write(
            run,
            out_dir,
            kind=to.value,
            after=after,
            board=board,
            batch=batch,
            data_dir=data_dir,
            command=shlex.join(["cosp", *sys.argv[1:]]),
        )
    if as_json:
        print(json.dumps({**vars(found), "folder": str(found.folder)}))
        return
    for line in (found.signature, *found.checks):
        err.print(line, highlight=False, soft_wrap=True)
    for name in found.files:
        print(found.folder / name)
