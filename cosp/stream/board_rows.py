"""The rows of a stream on real boards: those of a simulated one, as far as boards tell."""

from __future__ import annotations

from typing import Any

from cosp.fleet.introduction import Introduction
from cosp.server.rows import MEASURED
from cosp.stream.deployed import Deployed
from cosp.stream.fitting import serving_task
from cosp.stream.question import Place, Question
from cosp.stream.settings import AdaptConfig
from cosp.task.demand import peak_memory_bytes
from cosp.wire.door import ServeFacts
from cosp.wire.served import Served

Row = dict[str, Any]


def board_row(place: Place, told: Introduction, deployed: Deployed, config: AdaptConfig) -> Row:
    """Return who serves, and with what."""
    task = serving_task(config, deployed, place.client, place.plan, samples=1)
    return {
        "kind": "client",
        "client": place.client,
        "board": told.board,
        "link": told.link,
        "parameters": task.parameters,
        "depth": place.plan.depth,
        "exit": deployed.facts.shape.exits_within(place.plan.depth)[place.exit],
        "memory_bytes": told.memory_bytes,
        "peak_memory_bytes": peak_memory_bytes(task),
    }


def served_row(question: Question, served: Served, *, since_s: float, now_s: float) -> Row:
    """Return what a board answered since it was last asked; ``right`` None: it has no labels."""
    report, facts = served.report, served.facts
    assert report is not None
    return {
        "kind": "window",
        "client": question.place.client,
        "window": question.window,
        "from_s": since_s,
        "to_s": question.sent_s,
        "version": report.version,
        "corruption": None,
        "severity": 0,
        "samples": report.samples,
        "missed": facts.place - question.place.behind - report.samples,
        "right": facts.right,
        "uncertainty": report.uncertainty,
        "chosen": sum(len(part.rows) for part in served.uploads),
        "bytes_down": 0,
        "bytes_up": served.size_bytes,
        "lost": None,
        **_measured(question, facts, now_s),
    }


def brought_row(question: Question, served: Served, *, way: str, lost: str | None, now_s: float) -> Row:
    """Return what is known of a set that a board was sent; what took the time of its report is in that row."""
    sent = question.sent
    assert sent is not None
    alone = served.report is None
    return {
        "kind": "download",
        "client": question.place.client,
        "version": sent.after.version,
        "base": question.base,
        "way": way,
        "bytes_down": len(sent.message),
        "bytes_up": 0,
        "lost": lost,
        **_measured(question, served.facts if alone else None, now_s),
    }


def failed_row(question: Question | None, reason: str, detail: str, *, now_s: float) -> Row:
    """Return what came to nothing; None: nobody had asked."""
    return {
        "kind": "failed",
        "client": None if question is None else question.place.client,
        "node": None if question is None else question.node,
        "reason": reason,
        "detail": detail[-400:],
        "bytes_down": len(question.sent.message) if question is not None and question.sent is not None else 0,
        "virtual_s": now_s,
    }


def _measured(question: Question, facts: ServeFacts | None, now_s: float) -> Row:
    """Return spans and joules, none without ``facts``. All that was not compute, queues too, counts as download."""
    elapsed_s = 0.0 if facts is None else now_s - question.sent_s
    told: Row = {} if facts is None else {key: value for key in MEASURED if (value := getattr(facts, key)) is not None}
    compute_s = min(elapsed_s, (facts.wall_s if facts is not None else None) or 0.0)
    return {
        **told,
        "download_s": elapsed_s - compute_s,
        "compute_s": compute_s,
        "upload_s": 0.0,
        "energy_j": (facts.wall_energy_j if facts is not None else None) or 0.0,
        "sent_s": question.sent_s,
        "arrived_s": now_s,
        "virtual_s": now_s,
    }
