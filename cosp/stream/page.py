"""One self-contained HTML page from one stream or several: no script, no network, the same bytes every time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from cosp.errors import UserError
from cosp.files import shown_name, write_whole
from cosp.report import units
from cosp.report.palette import look
from cosp.report.style import house_style, svg
from cosp.stream.figures import accuracy_over_time, bytes_of_boards, energy_of_boards, heat_of_boards, share_right
from cosp.stream.read import Row, StreamRun, read_stream
from cosp.stream.tally import BoardTally

MOST_BOARDS = 40  # rows of a figure that are still easy to read


@dataclass(frozen=True, kw_only=True)
class Plot:
    id: str
    title: str
    caption: str
    svg: Markup | None
    wide: bool = False


def write_page(folders: Sequence[Path], out: Path) -> Path:
    """Write the page of the streams in ``folders`` to ``out`` and return it; UserError if one holds none."""
    runs = [read_stream(folder) for folder in folders]
    html = render(runs, _labels(runs))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        known = out.read_bytes()[:200] if out.is_file() else b""
        if known and b"<!doctype html" not in known.lower():
            raise UserError(f"{out}: is there already, and is no report; choose another --out")
        write_whole(out, shown_name(html))
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror}); choose another --out") from None
    return out


def _labels(runs: Sequence[StreamRun]) -> list[str]:
    names = [run.header["label"] for run in runs]
    return names if len(set(names)) == len(names) else [run.folder.name for run in runs]


def render(runs: Sequence[StreamRun], labels: Sequence[str]) -> str:
    with house_style():
        plots = _plots(runs, labels)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files("cosp.stream").joinpath("stream.html.j2").read_text(encoding="utf-8"))
    one = runs[0] if len(runs) == 1 else None
    return template.render(
        title=(one.header["title"] or labels[0]) if one else f"{len(runs)} streams side by side",
        runs=[(label, run.header, run.tally.metrics(), run.metrics) for label, run in zip(labels, runs, strict=True)],
        plots=plots,
        boards=_boards(one) if one else [],
        events=_events(one) if one else [],
        config=one.config if one else None,
        look=Markup(look()),
        u=units,
    )


def _plots(runs: Sequence[StreamRun], labels: Sequence[str]) -> list[Plot]:
    some = any(run.tally.stream.labelled for run in runs)
    line = "One line a run." if len(runs) > 1 else "Red lines: a set was taken back."
    found = [
        _plot(
            "accuracy", "Accuracy on the stream",
            f"Share of what came in each window that was answered right; up is better. {line}",
            (lambda: accuracy_over_time(runs, labels)) if some else None, wide=True,
        )
    ]  # fmt: skip
    return found + (_own_plots(runs[0], some) if len(runs) == 1 else [])


def _own_plots(run: StreamRun, labelled: bool) -> list[Plot]:
    some = bool(run.tally.stream.samples)
    boards = list(run.tally.boards.values())[:MOST_BOARDS]
    names = [f"{row['client']} · {row['board']}" for row in run.of("client")][:MOST_BOARDS]
    note = f" Shown are the first {MOST_BOARDS} boards." if len(run.tally.boards) > MOST_BOARDS else ""
    return [
        _plot(
            "boards", "Accuracy of each board", "The darker a cell, the more of its window a board got right.",
            (lambda: heat_of_boards(run, share_right, most=1, low="0 %", high="100 % right")) if labelled else None,
        ),
        _plot(
            "drift", "Drift of each board", "The darker a cell, the more severely samples were corrupted then.",
            (lambda: heat_of_boards(run, lambda row: row["severity"], most=5, low="clean", high="severity 5"))
            if some and not run.header.get("real") else None,
        ),
        _plot(
            "bytes", "Bytes of each board", f"What went up, reports and samples, and what came down.{note}",
            (lambda: bytes_of_boards(boards, names)) if some else None,
        ),
        _plot(
            "energy", "Energy of each board", f"What answering and sending drew, beside idling.{note}",
            (lambda: energy_of_boards(boards, names)) if some else None,
        ),
    ]  # fmt: skip


def _plot(id: str, title: str, caption: str, draw: Callable[[], Figure] | None, *, wide: bool = False) -> Plot:
    return Plot(id=id, title=title, caption=caption, svg=Markup(svg(draw(), id)) if draw else None, wide=wide)


def _boards(run: StreamRun) -> list[tuple[Row, BoardTally]]:
    return [(row, run.tally.boards[row["client"]]) for row in run.of("client")]


def _events(run: StreamRun) -> list[tuple[Any, str]]:
    """Return when a set was taken back or refused, and why, in words."""
    found = []
    for row in run.rows:
        if row["kind"] == "rollback":
            found.append((row["virtual_s"], f"set {row['version']} taken back to {row['to']}: {_why(row)}"))
        elif row["kind"] == "refused":
            found.append((row["virtual_s"], f"a step was refused on the server: {row['reason']}"))
        elif row["kind"] == "failed":
            found.append((row["virtual_s"], f"client {row['client']}: {row['reason']} {row['detail']}"))
    return found[:MOST_BOARDS]


def _why(row: Row) -> str:
    boards = ", ".join(map(str, row["boards"]))
    if row["why"] == "untried":
        return f"too few of boards {boards} came to try it"
    grew = ", ".join(f"{change:+.3f}" for change in row["changes"])
    return f"boards {boards} were less sure with it, by {grew} of the most there is, window by window"
