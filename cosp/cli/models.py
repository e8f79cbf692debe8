"""Commands of trained models: export, predict, evaluate."""

from __future__ import annotations

import json
import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cosp.cli.screen import DataDir, Json, err, new_typer, print_table

if TYPE_CHECKING:
    from cosp.export.write import Written
    from cosp.predict.evaluation import Score

app = new_typer()


class To(StrEnum):
    """What a model is exported to."""

    HF = "hf"
    ONNX = "onnx"
    TORCH = "torch"


Model = Annotated[Path, typer.Argument(metavar="MODEL", help="A run, an exported folder, a .onnx or a .pt2")]
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
    found = written(run, out_dir, to, after=after, board=board, batch=batch, data_dir=data_dir)
    if as_json:
        print(json.dumps({**vars(found), "folder": str(found.folder)}))
        return
    say_written(found)


def written(
    run: Path,
    folder: Path,
    to: To,
    *,
    after: int | None = None,
    board: int | None = None,
    batch: int | None = None,
    data_dir: Path | None = None,
) -> Written:
    """Export a run's model as ``folder``, by the command that this process was given."""
    from cosp.experiment import single_thread
    from cosp.export.write import export as write

    single_thread()
    command = shlex.join(["cosp", *sys.argv[1:]])
    with err.status("exporting"):
        return write(run, folder, kind=to.value, after=after, board=board, batch=batch, data_dir=data_dir,
                     command=command)  # fmt: skip


def say_written(found: Written) -> None:
    """Say what an export reads, answers and passed, and print its files."""
    for line in (found.signature, *found.checks):
        err.print(line, highlight=False, soft_wrap=True)
    for name in found.files:
        print(found.folder / name)


@app.command(
    epilog="Examples: `cosp predict runs/a pictures/ one.png` · `cosp predict model.onnx 'a text' texts.csv --text "
    "body` · `cosp predict runs/a photo.jpg --confident 0.9 --json`"
)
def predict(
    model: Model,
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUT...", help="Images or folders; texts, files of lines, tables, -; .csv; .npz"),
    ],
    after: AtExit = None,
    confident: Annotated[
        float | None, typer.Option(min=0, max=1, help="Leave at the first exit that gives a class this probability")
    ] = None,
    text: Annotated[str | None, typer.Option("--text", metavar="COLUMN", help="Of tables: what to classify")] = None,
    as_json: Json = False,
) -> None:
    """Say which class each input is, and how probable that is."""
    say_predictions(model, inputs, after=after, confident=confident, text=text, as_json=as_json)


def say_predictions(
    model: Path,
    inputs: list[str],
    *,
    after: int | None = None,
    confident: float | None = None,
    text: str | None = None,
    as_json: bool = False,
) -> None:
    """Print the class of each input and its probability, a line each or as JSON."""
    from cosp.experiment import single_thread
    from cosp.predict.answers import answers
    from cosp.predict.inputs import read_inputs
    from cosp.predict.opened import open_model

    single_thread()
    opened = open_model(model)
    opened.last_exit(after)  # a wrong one is said before anything is read
    read = read_inputs(opened, inputs, text=text)
    found = answers(opened, read.x, after=after, confident=confident)
    classes = opened.facts.classes
    rows = [
        (name, classes[number], probability, int(exit))
        for name, (number, probability), exit in zip(read.names, found.best(), found.exits, strict=True)
    ]
    if as_json:
        every = [dict(zip(classes, map(float, row), strict=True)) for row in found.probabilities]
        keys = ("input", "class", "probability", "exit", "probabilities")
        print(json.dumps([dict(zip(keys, (*row, p), strict=True)) for row, p in zip(rows, every, strict=True)]))
        return
    widest = max(map(len, classes))
    for name, kind, probability, exit in rows:
        print(f"{kind:{widest}}  {probability:.4f}  exit {exit}  {' '.join(name.split())}")


@app.command(
    epilog="Examples: `cosp evaluate runs/a` · `cosp evaluate model/ --data pictures --out trade_off.svg` · "
    "`cosp evaluate model.onnx --data reviews.csv --text body --label stars`"
)
def evaluate(
    model: Model,
    data: Annotated[str | None, typer.Option("--data", help="As data.name of a config; default the run's own")] = None,
    out_file: Annotated[Path | None, typer.Option("--out", help="A figure: .svg, .png or .pdf")] = None,
    text: Annotated[str | None, typer.Option("--text", metavar="COLUMN", help="Which holds texts")] = None,
    label: Annotated[str | None, typer.Option("--label", metavar="COLUMN", help="Which holds classes")] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Print accuracy and macro F1 of every exit, and what leaving early costs and saves."""
    from cosp.data.columns import Columns
    from cosp.experiment import single_thread
    from cosp.predict import evaluation, figure
    from cosp.predict.labelled import labelled
    from cosp.predict.opened import open_model

    single_thread()
    if out_file is not None:
        figure.check_name(out_file)
    opened = open_model(model)
    said = opened.facts.reading.columns
    columns = Columns(
        image=said.get("image"),
        label=label or said.get("label"),
        text=text or said.get("text"),
        text_pair=said.get("text_pair"),
        names=tuple(said["columns"]) if "columns" in said else None,
        strip=said.get("strip"),
    )
    with err.status("evaluating"):
        x, y, what = labelled(opened, data, data_dir=data_dir, columns=columns)
        alone, sure = evaluation.evaluate(opened, x, y)
    if as_json:
        keys = ("exits", "confident")
        found = {key: [vars(score) for score in scores] for key, scores in zip(keys, (alone, sure), strict=True)}
        print(json.dumps({"data": what, "samples": len(y), **found}))
    else:
        _print_scores(f"{len(y):,} samples of {what}", opened.facts.exits, alone, sure)
    if out_file is not None:
        figure.draw(out_file, alone, sure, f"{opened.facts.name}: {what}")
        err.print(str(out_file), highlight=False, soft_wrap=True)


def _print_scores(title: str, exits: tuple[int, ...], alone: list[Score], sure: list[Score]) -> None:
    rows = (
        (
            score.name,
            " ".join(f"{share:.0%}" for share in score.shares) if score in sure else "",
            f"{score.accuracy:.4f}",
            f"{score.macro_f1:.4f}",
            f"{score.flops / 1e6:.3f}",
            "-" if score.ms is None else f"{score.ms:.3f}",
        )
        for score in (*alone, *sure)
    )
    leave = "leave at " + " ".join(map(str, exits))
    print_table(title, ("by", leave, "accuracy", "macro F1", "MFLOPs", "ms"), rows, left=2)
