"""What each client would hold, and what one training task would cost it; nothing is trained."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from cosp.experiment import Experiment
from cosp.fleet.board import Board
from cosp.fleet.cost import cost, cost_range, step_parts_s
from cosp.fleet.introduction import Introduction
from cosp.methods import Method
from cosp.methods.clients import ClientRecord, scoring_within_memory
from cosp.methods.pricing import work_of
from cosp.submodel import capacity
from cosp.submodel.budget import MEASURES
from cosp.submodel.footprint import footprint
from cosp.submodel.plan import SubmodelPlan
from cosp.submodel.selection import random_scores
from cosp.task.contents import content_unknown
from cosp.task.demand import download_bytes, peak_memory_bytes, upload_bytes
from cosp.task.task import Task

Row = dict[str, Any]


def plan_rows(experiment: Experiment) -> list[Row]:
    """Return one row a client; units are drawn as if by data, which fixes no cost. A task is the second or a later one:
    the first also brings what is frozen (``bytes_down_first``).

    ``data_of`` names whose data a board holds, where the data say that.
    """
    clients = experiment.introductions
    method = experiment.method(clients)
    rule = experiment.assignment
    unhurried = experiment.method(clients, replace(rule, target_round_s=math.inf)) if rule.takes_blocks_away else method
    boards = zip(experiment.boards, clients, strict=True)
    rows = [_row(experiment, method, unhurried, board, client) for board, client in boards]
    held = experiment.natural
    if held is not None:
        rows = [row | {"data_of": list(holding.clients)} for row, holding in zip(rows, held, strict=True)]
    return rows


def _row(experiment: Experiment, method: Method, unhurried: Method, board: Board, client: Introduction) -> Row:
    config, shape = experiment.config, experiment.shape
    scores = random_scores(shape, method.submodels.depth(client), np.random.default_rng(0))
    record = ClientRecord(introduction=client, scores=scores)
    plan = replace(method.submodels.plan(record), words=client.words)
    parts = method.local.parts(record, config.trains)
    first = Task("train", client.client, 0, 0, config.seed, shape, plan, **parts)
    task = again(first, method.merging.changes_frozen)
    held = shape.holding(client.words)
    size = footprint(held, plan.counts)
    work = work_of(task, samples=client.samples, test_samples=client.test_samples)
    typical, (fast, slow) = cost(board, work), cost_range(board, work)
    counts, rated = plan.counts[-1], experiment.assignment.by_rate(client)
    blocks = footprint(held, (held.sizes,) * size.depth)
    limit_bytes = experiment.limit_bytes(client)
    scoring = scoring_within_memory(client, method.submodels.scoring_of(client), blocks, limit_bytes)
    whole = footprint(shape, (shape.sizes,) * shape.blocks)
    share = size.parameters / whole.parameters
    budget = MEASURES[getattr(config.method, "budget", "parameters")]
    target_s = config.assignment.target_round_s
    return {
        "client": client.client,
        "board": client.board,
        "mode": board.profile.mode,
        "link": client.link,
        "calibration": board.profile.calibration,
        "keep": client.keep,
        "samples": client.samples,
        "precision": task.precision,
        "checkpointing": task.training.checkpointing,
        "frozen_as": task.frozen.held_as if task.training.frozen else None,
        "depth": size.depth,
        "heads": counts.heads,
        "hidden": counts.hidden,
        "rows": counts.attention_rows,
        "parameters": size.parameters,
        "words": None if client.words is None else len(client.words),
        "share": share,
        "binding": _binding(experiment, method, unhurried, client, plan),
        "used": {  # of each limit
            "keep": budget(size) / budget(whole) / client.keep if client.keep and rated else None,
            "memory": peak_memory_bytes(task) / limit_bytes,
            "time": typical.total_s / target_s if target_s else None,
        },
        "memory_bytes": peak_memory_bytes(task),
        "memory_limit_bytes": limit_bytes,
        "score_memory_bytes": scoring.peak_bytes(blocks, scoring.held_samples) if scoring else None,
        "score_samples_held": scoring.held_samples if scoring else None,
        "step_parts_s": step_parts_s(board.profile, work),
        "download_s": typical.download_s,
        "compute_s": typical.compute_s,
        "upload_s": typical.upload_s,
        "task_s": typical.total_s,
        "target_round_s": target_s,
        "task_range_s": [fast.total_s, slow.total_s],
        "energy_j": typical.energy_j,
        "energy_range_j": [fast.energy_j, slow.energy_j],
        "bytes_down": download_bytes(task),
        "bytes_down_first": download_bytes(first),
        "bytes_up": upload_bytes(task),
    }


def again(task: Task, changing: frozenset[str] = frozenset()) -> Task:
    """Return ``task`` as it is sent to a client that has done one before: what is frozen it has kept, but for what is
    ``changing`` all the same.
    """
    kept = {name: span for name, span in task.frozen_spans.items() if name not in changing}
    return replace(task, kept=tuple((name, content_unknown(name, span.shape)) for name, span in kept.items()))


def _binding(
    experiment: Experiment, method: Method, unhurried: Method, client: Introduction, plan: SubmodelPlan
) -> list[str]:
    """Return what keeps the client from a larger submodel: ``keep``, ``memory``, ``time``, or the ``method``, which
    trains one smaller model everywhere; nothing if it holds the whole model. ``unhurried`` is the method without a
    target round time.
    """
    if plan.counts == experiment.shape.full_plan().counts:
        return []
    if plan.blocks == method.model.evaluated.blocks:
        return ["method"]
    rule = experiment.assignment
    if rule.rule != "time":
        if plan.depth < unhurried.submodels.depth(client):
            return ["time"]
        return ["keep" if rule.by_rate(client) else "memory"]
    held = experiment.shape.holding(client.words)
    demand_of = rule.demand_of(client, held, experiment.config.trains)
    trunk = experiment.config.trains.left.blocks
    return list(capacity.binding(held, demand_of, rule.limits(client), trunk))
