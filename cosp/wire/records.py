"""How tasks and results lie in the records of a Flower message; apart from ``messages``, as it needs no torch.

Instruction: ``task`` (ConfigRecord, one JSON text) and ``weights`` (ArrayRecord).
Reply: ``result`` (ConfigRecord, one JSON text) and ``arrays`` (ArrayRecord): the weight change, or scores, or a mask.
Either ArrayRecord holds one array, ``vector``: float32, tensors end to end in the layout's order; or the bytes of
weights of which the frozen ones are halves (``cosp.task.sent``); or a mask's, a bit for each weight that it is drawn
for. Flower stores, pulls and confirms every array by itself, so that an array a parameter costs a real server seconds a
task.
"""

from __future__ import annotations

import json
from collections.abc import Callable, ItemsView, Iterator, KeysView, Mapping, ValuesView
from dataclasses import asdict
from typing import Any, cast

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.app.typing import ConfigRecordValues

from cosp.fleet.introduction import Introduction

TASK, WEIGHTS, RESULT, ARRAYS, VECTOR, JSON = "task", "weights", "result", "arrays", "vector", "json"
KEPT_OUT, WHY = "kept-out", "why"
ASKED, WORDS = "asked", "words"


class JsonRecord(ConfigRecord):
    """A record of one JSON text that holds its ``value`` and is written only when somebody asks for the text.

    In process nobody does; over a network, where Flower asks a dozen times, or pickled, it is an ordinary record.
    ``value`` does not change.
    """

    __qualname__ = (
        ConfigRecord.__qualname__
    )  # Flower writes the class's name on the wire and reads it back as that class

    def __init__(self, value: Any, write: Callable[[Any], str] = json.dumps) -> None:
        super().__init__()
        self.value, self._write = value, write
        self._record: ConfigRecord | None = None

    def _written(self) -> ConfigRecord:
        if self._record is None:
            self._record = ConfigRecord({JSON: self._write(self.value)})
        return self._record

    def __getitem__(self, key: str) -> ConfigRecordValues:
        return self._written()[key]

    def __iter__(self) -> Iterator[str]:
        return iter((JSON,))

    def __len__(self) -> int:
        return 1

    def __contains__(self, key: object) -> bool:
        return key == JSON

    def __eq__(self, other: object) -> bool:
        return self._written() == other

    def keys(self) -> KeysView[str]:
        return self._written().keys()

    def values(self) -> ValuesView[ConfigRecordValues]:
        return self._written().values()

    def items(self) -> ItemsView[str, ConfigRecordValues]:
        return self._written().items()

    def copy(self) -> ConfigRecord:  # type: ignore[override]
        return ConfigRecord(dict(self._written()))

    def __reduce__(self) -> tuple[type[ConfigRecord], tuple[dict[str, str]]]:
        return ConfigRecord, ({JSON: str(self[JSON])},)


def introduction_question(why: str = "", *, words: bool) -> RecordDict:
    """Return what a node is asked that is to say who it is; with ``words``, also which words its texts use; ``why`` it
    was kept out when it was asked before, if it was.
    """
    asked = {ASKED: ConfigRecord({WORDS: True})} if words else {}
    return RecordDict({**asked, **({KEPT_OUT: ConfigRecord({WHY: why})} if why else {})})


def asks_words(request: Message) -> bool:
    """Say whether an :func:`introduction_question` asks for words; one of an older server does not."""
    return bool(request.content.get(ASKED, ConfigRecord()).get(WORDS, False))


def instruction_content(task: JsonRecord, weights: Array) -> RecordDict:
    return RecordDict({TASK: task, WEIGHTS: vector_record(weights)})


def task_text(request: Message) -> str:
    return str(request.content[TASK][JSON])


def weights_of(request: Message) -> Array:
    return cast(Array, request.content[WEIGHTS][VECTOR])


def arrays_of(reply: Message) -> Array:
    return cast(Array, reply.content[ARRAYS][VECTOR])


def reply(request: Message, facts: Mapping[str, Any], vector: Array) -> Message:
    content = RecordDict({RESULT: JsonRecord(dict(facts)), ARRAYS: vector_record(vector)})
    return Message(content, reply_to=request)


def vector_record(vector: Array) -> ArrayRecord:
    record = ArrayRecord()
    record[VECTOR] = vector
    return record


def kept_out(request: Message) -> str:
    """Return why the server keeps this node out, empty if it does not."""
    record = request.content.get(KEPT_OUT)
    return str(record[WHY]) if isinstance(record, ConfigRecord) else ""


def introduction_reply(request: Message, introduction: Introduction) -> Message:
    """Return the answer of a node that was asked who it is."""
    record = JsonRecord(introduction, lambda known: json.dumps(asdict(known)))
    return Message(RecordDict({RESULT: record}), reply_to=request)
