"""Accuracy against FLOPs of every exit and of leaving early, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cosp.errors import UserError
from cosp.predict.evaluation import Score

SUFFIXES = (".svg", ".png", ".pdf")


def check_name(path: Path) -> None:
    """UserError unless the figure's name says how it is to be written."""
    if path.suffix not in SUFFIXES:
        raise UserError(f"--out {path}: a figure must end in {', '.join(SUFFIXES)}")


def draw(path: Path, exits: Sequence[Score], sure: Sequence[Score], title: str) -> None:
    """Write the figure; UserError if that fails."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.add_subplot()
    for scores, label, mark in ((exits, "one exit for all", "o-"), (sure, "leaving when sure", "s--")):
        if scores:
            axes.plot([s.flops / 1e6 for s in scores], [s.accuracy for s in scores], mark, label=label, markersize=4)
    for score in (*exits, *sure):
        place = (score.flops / 1e6, score.accuracy)
        axes.annotate(score.name.rpartition(" ")[2], place, textcoords="offset points", xytext=(4, 4), fontsize=7)
    axes.set_xlabel("MFLOPs a sample, on average")
    axes.set_ylabel("accuracy")
    axes.set_title(title, fontsize=9)
    axes.grid(alpha=0.3)
    axes.legend()
    try:
        figure.savefig(path)
    except OSError as error:
        raise UserError(f"--out {path}: cannot be written ({error.strerror})") from error
