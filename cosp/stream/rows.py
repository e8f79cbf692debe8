"""The rows of a stream's run."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cosp.adaptation.answers import Answers
from cosp.adaptation.download import WAYS
from cosp.adaptation.upload import Choice
from cosp.stream.answering import Asked
from cosp.stream.deployed import Deployed
from cosp.stream.fitting import serving_task
from cosp.stream.seat import Seat
from cosp.stream.server import Published
from cosp.stream.settings import AdaptConfig, Shift
from cosp.task.demand import peak_memory_bytes

Row = dict[str, Any]


def stream_row(config: AdaptConfig, deployed: Deployed) -> Row:
    """Return the first row: what was asked for."""
    facts = deployed.facts
    return {
        "kind": "stream",
        "name": config.name,
        "label": config.label,
        "title": config.title,
        "seed": config.seed,
        "clients": len(deployed.plans),
        "classes": list(facts.classes),
        "model": f"{facts.name} (version {facts.version}, method {facts.method}, data {facts.data})",
        "window_s": config.stream.window_s,
        "until_s": config.stream.until_s,
        "up": config.upload.rule,
        "adapt": f"{config.adapt.rule}, {' and '.join(config.adapt.parts)}",
        "down": config.download.how,
    }


def client_row(seat: Seat, deployed: Deployed, config: AdaptConfig) -> Row:
    """Return who serves, and with what."""
    board, plan = seat.board, seat.plan
    task = serving_task(config, deployed, seat.client, plan, samples=1)
    return {
        "kind": "client",
        "client": seat.client,
        "board": board.profile.name,
        "link": board.link.name,
        "parameters": task.parameters,
        "depth": plan.depth,
        "exit": deployed.facts.shape.exits_within(plan.depth)[seat.exit],
        "memory_bytes": board.profile.memory_bytes,
        "peak_memory_bytes": peak_memory_bytes(task),
        "samples": len(seat.coming),
    }


def asked_row(seat: Seat, asked: Asked, *, samples: int, shift: Shift | None) -> Row:
    """Return what is known of a board's window before it is answered."""
    return {
        "kind": "window",
        "client": seat.client,
        "window": seat.window,
        "from_s": asked.since_s,
        "to_s": asked.until_s,
        "version": asked.version,
        "corruption": None if shift is None else shift.corruption,
        "severity": 0 if shift is None else shift.severity,
        "samples": samples,
        "missed": asked.missed,
    }


def window_row(
    seat: Seat, asked: Asked, answers: Answers, labels: NDArray[np.int64], *, choice: Choice, shift: Shift | None
) -> Row:
    """Return what a board answered since it was last asked, right by ``labels``, which nobody is sent."""
    return {
        **asked_row(seat, asked, samples=len(answers), shift=shift),
        "right": int((answers.predicted == labels).sum()),
        "uncertainty": float(answers.uncertainty.mean()),
        "disagreement": choice.disagreement,
        "chosen": len(choice.rows),
        "redundant": choice.dropped,
        "collapsed": choice.collapsed,
    }


def download_row(client: int, target: Published, *, base: int | None, message: bytes) -> Row:
    """Return what is known of a set as it is sent; ``base`` None: all of it is, as nobody knows what the board has."""
    return {
        "kind": "download",
        "client": client,
        "version": target.version,
        "base": base,
        "way": WAYS[message[0]],
    }
