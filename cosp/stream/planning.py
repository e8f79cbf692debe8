"""What serving, sending and taking sets would cost each board: ``cosp plan`` of a stream; nothing is answered."""

from __future__ import annotations

from typing import Any

from cosp.adaptation.download import HALF_BYTES, HEADER
from cosp.amounts import amount
from cosp.console import bytes_text, seconds
from cosp.fleet.board import Board
from cosp.fleet.cost import cost
from cosp.methods.pricing import serving_work
from cosp.stream.deployed import Deployed
from cosp.stream.fitting import fitting_fleet, serving_task
from cosp.stream.settings import AdaptConfig
from cosp.stream.uploads import sample_bytes
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
    one_bytes = sample_bytes(config.upload, deployed.facts.reading, deployed.facts.shape)
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


def lines(rows: list[Row]) -> list[tuple[str, ...]]:
    """Return the cells of the table."""
    return [
        (
            str(row["client"]),
            f"{row['board']}\n{row['link']}",
            f"{amount(row['parameters'], 'parameters').removesuffix(' parameters')}\nexit {row['exit']}",
            f"{bytes_text(row['memory_bytes'])}\n{row['memory_bytes'] / row['memory_limit_bytes']:.1%}",
            f"{seconds(row['sample_s'])}\n{row['busy']:.1%}",
            f"{bytes_text(row['bytes_up'])}\n{seconds(row['upload_s'])}",
            f"{bytes_text(row['bytes_down'])}\n{bytes_text(row['bytes_down_whole'])}",
            f"{row['energy_j']:.3g}",
        )
        for row in rows
    ]


HEAD = ("", "board\nlink", "model\nanswers", "memory\nof its", "a sample\nbusy", "up a\nwindow", "a set\nor whole",
        "energy\nJ")  # fmt: skip
