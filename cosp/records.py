"""How tasks and results lie in the records of a Flower message; apart from :mod:`cosp.wire`, because it needs no torch.

Instruction: ``task`` (ConfigRecord, one JSON text) and ``weights`` (ArrayRecord).
Reply: ``result`` (ConfigRecord, one JSON text) and ``arrays`` (ArrayRecord): the weight change, or scores.
Either ArrayRecord holds one float32 array, ``vector``: tensors end to end in the layout's order. Flower stores, pulls
and confirms every array by itself, so that an array a parameter costs a real server seconds a task.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict

from cosp.server.introduction import Introduction

TASK, WEIGHTS, RESULT, ARRAYS, VECTOR = "task", "weights", "result", "arrays", "vector"


def instruction_content(task: str, weights: Array) -> RecordDict:
    return RecordDict({TASK: ConfigRecord({"json": task}), WEIGHTS: vector_record(weights)})


def task_text(request: Message) -> str:
    return str(request.content.config_records[TASK]["json"])


def weights_of(request: Message) -> Array:
    return request.content.array_records[WEIGHTS][VECTOR]


def reply(request: Message, facts: Mapping[str, Any], vector: Array) -> Message:
    content = RecordDict({RESULT: ConfigRecord({"json": json.dumps(facts)}), ARRAYS: vector_record(vector)})
    return Message(content, reply_to=request)


def vector_record(vector: Array) -> ArrayRecord:
    record = ArrayRecord()
    record[VECTOR] = vector
    return record


def introduction_reply(request: Message, introduction: Introduction) -> Message:
    """Return the answer of a node that was asked who it is."""
    text = json.dumps(asdict(introduction))
    return Message(RecordDict({RESULT: ConfigRecord({"json": text})}), reply_to=request)
