"""What each client would hold, and what one training task would cost it; nothing is trained."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from cosp.client.task import Task
from cosp.console import bytes_text, seconds
from cosp.experiment import Experiment
from cosp.fleet.cost import cost, cost_range
from cosp.fleet.fleet import Board
from cosp.methods import Method
from cosp.runtime.pricing import work_of
from cosp.server.clients import ClientRecord, Introduction, scoring_within_memory
from cosp.submodel.footprint import footprint
from cosp.submodel.selection import random_scores

Row = dict[str, Any]


def plan_rows(experiment: Experiment) -> list[Row]:
    """Return one row a client; units are drawn as if by data, which fixes no cost."""
    clients = experiment.introductions
    method = experiment.method(clients)
    return [_row(experiment, method, board, client) for board, client in zip(experiment.boards, clients, strict=True)]


def _row(experiment: Experiment, method: Method, board: Board, client: Introduction) -> Row:
    config, shape = experiment.config, experiment.shape
    scores = random_scores(shape, method.depth(client), np.random.default_rng(0))
    record = ClientRecord(introduction=client, scores=scores)
    plan = method.plan(record)
    parts = method.training_parts(record, config.training)
    task = Task("train", client.client, 0, 0, config.seed, shape, plan, **parts)
    size = footprint(shape, plan.counts)
    work = work_of(task, samples=client.samples, test_samples=client.test_samples)
    typical, (fast, slow) = cost(board, work), cost_range(board, work)
    counts = plan.counts[0]
    blocks = footprint(shape, (shape.sizes,) * size.depth)
    scoring = scoring_within_memory(client, method.scoring_of(client), blocks)
    return {
        "client": client.client,
        "board": client.board,
        "mode": board.profile.mode,
        "calibration": board.profile.calibration,
        "keep": client.keep,
        "samples": client.samples,
        "depth": size.depth,
        "heads": counts.heads,
        "hidden": counts.hidden,
        "rows": counts.attention_rows,
        "parameters": size.parameters,
        "share": size.parameters / footprint(shape, (shape.sizes,) * shape.blocks).parameters,
        "memory_bytes": task.peak_memory_bytes,
        "memory_limit_bytes": client.memory_bytes,
        "score_memory_bytes": scoring.peak_bytes(blocks, scoring.held_samples) if scoring else None,
        "score_samples_held": scoring.held_samples if scoring else None,
        "download_s": typical.download_s,
        "compute_s": typical.compute_s,
        "upload_s": typical.upload_s,
        "task_s": typical.total_s,
        "task_range_s": [fast.total_s, slow.total_s],
        "energy_j": typical.energy_j,
        "energy_range_j": [fast.energy_j, slow.energy_j],
        "bytes_down": task.download_bytes,
        "bytes_up": task.upload_bytes,
    }


COLUMNS = ("client", "board", "mode", "keep", "blocks", "heads", "hidden", "parameters", "memory", "limit", "task",
           "from - to", "compute", "energy", "down + up")  # fmt: skip


def plan_cells(rows: Iterable[Row]) -> list[tuple[str, ...]]:
    """Return the rows as text, in the order of ``COLUMNS``."""
    return [
        (
            str(row["client"]),
            row["board"],
            row["mode"],
            "memory" if row["keep"] is None else f"{row['keep']:g}",
            str(row["depth"]),
            str(row["heads"]),
            str(row["hidden"]),
            f"{row['parameters']:,} {row['share']:.0%}",
            bytes_text(row["memory_bytes"]),
            bytes_text(row["memory_limit_bytes"]),
            seconds(row["task_s"]),
            " - ".join(seconds(end_s) for end_s in row["task_range_s"]),
            seconds(row["compute_s"]),
            f"{row['energy_j']:.2f} J",
            bytes_text(row["bytes_down"] + row["bytes_up"]),
        )
        for row in rows
    ]
