"""What a board that serves is asked, and what it says: a report and samples, through the door.

The question lies in a message as a task does, the set that goes with it, or nothing, as the bytes of its array; so do
the bytes of the report in the reply. They are those of simulated boards, see ``cosp.adaptation``.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import NamedTuple, cast

import numpy as np
from flwr.app import Array, Message, MessageType

from cosp.adaptation import upward
from cosp.adaptation.asked import Ask, ask_to_json
from cosp.adaptation.posted import Post, Uploaded, UpSettings
from cosp.adaptation.upward import Report
from cosp.errors import RefusedUpdate
from cosp.wire import door, records
from cosp.wire import messages as wire
from cosp.wire.door import ServeFacts

SERVE_QUERY = f"{MessageType.QUERY}.serve"
MOST_UNSURE = 1.001
"""A share of ln C, with room for rounding."""


class Served(NamedTuple):
    """What a board says: ``report`` None where nothing came; ``size_bytes``: how long report and samples are."""

    facts: ServeFacts
    report: Report | None
    uploads: Sequence[Uploaded]
    size_bytes: int


def serve_request(ask: Ask, message: bytes, *, node: int) -> Message:
    """Return the message that asks ``node``, and brings it the set in ``message`` if that is not empty."""
    content = records.instruction_content(records.JsonRecord(ask, ask_to_json), Array(np.frombuffer(message, np.uint8)))
    return Message(content, dst_node_id=node, message_type=SERVE_QUERY)


def read_served(reply: Message, ask: Ask, post: Post) -> Served:
    """Return what the reply to ``ask`` says; RefusedUpdate if any of it is not as it must be."""
    facts = cast(ServeFacts, door.facts_of(wire.read_result(reply), "serve", priced=False))
    classes = ask.task.shape.classes
    data = door.bytes_of(wire.array_of(reply).data, most=upward.size_bytes(classes, post.most_bytes(ask.most)))
    if not data:
        if facts.samples or facts.right:
            raise RefusedUpdate("malformed", f"{facts.samples} samples were answered, and there is no report")
        return Served(facts, None, (), 0)
    report = _report_of(data, ask, facts)
    try:
        uploads = post.read(report.payload, most=_most(post.settings, report))
    except (ValueError, struct.error) as error:
        raise RefusedUpdate("malformed", f"the samples: {error}") from None
    return Served(facts, report, uploads, len(data))


def _most(settings: UpSettings, report: Report) -> int:
    """Return how many samples may come with a report."""
    if settings.rule == "none":
        return 0
    return min(report.samples, settings.samples or report.samples)


def _report_of(data: bytes, ask: Ask, facts: ServeFacts) -> Report:
    try:
        report = upward.from_bytes(data, ask.task.shape.classes)
    except (ValueError, struct.error) as error:
        raise RefusedUpdate("malformed", f"the report: {error}") from None
    if not math.isfinite(report.uncertainty):
        raise RefusedUpdate("non-finite", f"the report: uncertainty: must be finite, got {report.uncertainty}")
    rules = {
        f"uncertainty: must lie in [0, 1], got {report.uncertainty:g}": 0 <= report.uncertainty <= MOST_UNSURE,
        f"samples: must be 1 to {ask.most}, as many as asked for, got {report.samples}": 1
        <= report.samples
        <= ask.most,
        f"samples: {report.samples}, and {facts.samples} beside it": report.samples == facts.samples,
        f"predicted: {report.predicted.sum()} of {report.samples} samples": report.predicted.sum() == report.samples,
        f"right: {facts.right} of {report.samples} samples": (facts.right or 0) <= report.samples,
    }
    broken = next((rule for rule, kept in rules.items() if not kept), None)
    if broken is not None:
        raise RefusedUpdate("malformed", f"the report: {broken}")
    return report
