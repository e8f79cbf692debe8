"""What serving, sending and taking sets would cost each board: ``cosp plan`` of a stream; nothing is answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.table import Table

from cosp.adaptation.download import HALF_BYTES, HEADER
from cosp.console import bytes_text, seconds
from cosp.fleet.board import Board
from cosp.fleet.cost import cost
from cosp.methods.pricing import serving_work
from cosp.planning.table import count_text, joules, percent
from cosp.stream.deployed import Deployed
from cosp.stream.fitting import fitting_fleet, serving_task
from cosp.stream.settings import AdaptConfig
from cosp.stream.uploads import post_of
from cosp.submodel.plan import SubmodelPlan
from cosp.task.demand import peak_memory_bytes

Row = dict[str, Any]


def plan_rows(config: AdaptConfig, deployed: Deployed) -> list[Row]:
    """Return one row a board; ConfigError if a board cannot hold what it is to answer with."""
    fleet = fitting_fleet(config, deployed)
    return [_row(config, deployed, fleet.boards[client], plan) for client, plan in sorted(deployed.plans.items())]


def _row(config: AdaptConfig, deployed: Deployed, board: Board, plan: SubmodelPlan) -> Row:
    stream = config.stream.of(board.client)
    assert stream.per_s is not None
    window_s = config.stream.window_s
    samples = max(1, round(stream.per_s * window_s))
    task = serving_task(config, deployed, board.client, plan, samples=samples)
    up_bytes = most_up_bytes(config, deployed, samples)
    down_bytes = config.download.budget_bytes(task.parameters, link_bytes=board.link.downlink_bytes_per_s * window_s)
    found = cost(board, serving_work(task, bytes_down=0, bytes_up=up_bytes))
    whole_bytes = HEADER.size + HALF_BYTES * task.parameters
    return {
        "client": board.client,
        "board": board.profile.name,
        "link": board.link.name,
        "parameters": task.parameters,
        "exit": deployed.facts.shape.exits_within(plan.depth)[deployed.exit_of(plan)],
        "memory_bytes": peak_memory_bytes(task),
        "memory_limit_bytes": board.profile.memory_bytes,
        "sample_s": found.compute_s / samples,
        "busy": found.compute_s / window_s,
        "energy_j": found.energy_j,
        "bytes_up": up_bytes,
        "upload_s": found.upload_s,
        "bytes_down": down_bytes,
        "bytes_down_whole": whole_bytes,
        "download_s": board.link.download_s(down_bytes),
    }


def most_up_bytes(config: AdaptConfig, deployed: Deployed, samples: int) -> int:
    """Return what a board sends of a window at most: as many samples as ``upload`` lets, raw."""
    one_bytes = post_of(config.upload, deployed.facts.reading, deployed.facts.shape).sample_bytes
    most = 0 if config.upload.rule == "none" else samples * one_bytes
    if config.upload.samples is not None:
        most = min(most, config.upload.samples * one_bytes)
    return most if config.upload.most_bytes is None else min(most, config.upload.most_bytes)


def leaving_text(config: AdaptConfig) -> str:
    """Say in plain words what of the boards' data the server gets."""
    if config.upload.rule == "none":
        return (
            "No sample leaves a board (upload.rule none). The server learns how many samples a board answered, how "
            "sure it was on average and how often each class was its answer."
        )
    bounds = [
        f"{config.upload.samples} samples" if config.upload.samples is not None else "",
        bytes_text(config.upload.most_bytes) if config.upload.most_bytes is not None else "",
    ]
    most = " and ".join(filter(None, bounds)) or "everything that comes"
    return (
        f"Samples leave the boards: by upload.rule {config.upload.rule} each sends up to {most} a window of "
        f"{seconds(config.stream.window_s)}. The server, and whoever holds it, can read them. upload.rule: none sends "
        "none."
    )


HEAD = ("", "board\nlink", "weights\nexit", "memory\nof its", "a sample\nbusy", "window's\nupload, J", "a set\nwhole")


def stream_table(rows: Sequence[Row], title: str) -> Table:
    """Return the table of ``plan_rows`` for a terminal of 80 columns."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for i, name in enumerate(HEAD):
        table.add_column(name, justify="left" if i < 2 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*_cells(row))
    return table


def _cells(row: Row) -> tuple[str, ...]:
    return (
        str(row["client"]),
        f"{row['board']}\n{row['link']}",
        f"{count_text(row['parameters'])}\n{row['exit']}",
        f"{bytes_text(row['memory_bytes'])}\n{percent(row['memory_bytes'] / row['memory_limit_bytes'])}",
        f"{1e3 * row['sample_s']:.3g} ms\n{percent(row['busy'])}",
        f"{bytes_text(row['bytes_up'])}\n{joules(row['energy_j'])}",
        f"{bytes_text(row['bytes_down'])}\n{bytes_text(row['bytes_down_whole'])}",
    )
