"""How tasks and results lie in the records of a Flower message; apart from :mod:`cosp.wire`, because it needs no torch.

Instruction: ``task`` (ConfigRecord, one JSON text) and ``weights`` (ArrayRecord, one array a parameter).
Reply: ``result`` (ConfigRecord, one JSON text) and ``arrays`` (ArrayRecord: weight changes by name, or ``vector``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict

from cosp.server.introduction import Introduction

TASK, WEIGHTS, RESULT, ARRAYS, VECTOR = "task", "weights", "result", "arrays", "vector"


def instruction_content(task: str, weights: ArrayRecord) -> RecordDict:
    return RecordDict({TASK: ConfigRecord({"json": task}), WEIGHTS: weights})


def task_text(request: Message) -> str:
    return str(request.content.config_records[TASK]["json"])


def weights_of(request: Message) -> ArrayRecord:
    return request.content.array_records[WEIGHTS]


def reply(request: Message, facts: Mapping[str, Any], arrays: ArrayRecord) -> Message:
    content = RecordDict({RESULT: ConfigRecord({"json": json.dumps(facts)}), ARRAYS: arrays})
    return Message(content, reply_to=request)


def introduction_reply(request: Message, introduction: Introduction) -> Message:
    """Return the answer of a node that was asked who it is."""
    text = json.dumps(asdict(introduction))
    return Message(RecordDict({RESULT: ConfigRecord({"json": text})}), reply_to=request)
