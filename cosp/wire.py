"""Tasks and results as Flower messages: the only place that knows how they lie in records.

Instruction: ``task`` (ConfigRecord, one JSON text) and ``weights`` (ArrayRecord, one array a parameter).
Reply: ``result`` (ConfigRecord, one JSON text) and ``arrays`` (ArrayRecord: weight changes by name, or ``vector``).
A task that a simulated board lost is an error whose reason is a JSON text: why, and what the task took until then.
"""

from __future__ import annotations

import json
from collections.abc import Callable, ItemsView, Iterator, KeysView, Mapping, ValuesView
from dataclasses import asdict
from io import BytesIO
from typing import Any

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MessageType, RecordDict
from flwr.app.typing import ConfigRecordValues
from torch import Tensor

from cosp.client.task import Task
from cosp.errors import RefusedUpdate
from cosp.models.transformer import layout_of
from cosp.server.clients import Budget, Introduction
from cosp.submodel.flat import spans_of, views
from cosp.submodel.slicing import State

VECTOR = "vector"
JSON = "json"
LOST = 1000  # an error code beyond Flower's own
FIGURES = ("download_s", "compute_s", "upload_s", "energy_j", "bytes_down", "bytes_up")
SCORE_QUERY = f"{MessageType.QUERY}.score"


class TensorArray(Array):
    """A Flower Array that holds its tensor and is serialised only when somebody asks for the bytes.

    In process nobody does, so nothing is copied; over a network, or pickled, it is an ordinary array.
    """

    __qualname__ = Array.__qualname__  # Flower writes the class's name on the wire and reads it back as that class

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        self.dtype = "float32"
        self.shape = tuple(tensor.shape)
        self.stype = "numpy.ndarray"

    @property
    def data(self) -> bytes:  # type: ignore[override]
        buffer = BytesIO()
        np.save(buffer, self.numpy(), allow_pickle=False)
        return buffer.getvalue()

    def __reduce__(self) -> tuple[type[Array], tuple[str, tuple[int, ...], str, bytes]]:
        return Array, (self.dtype, self.shape, self.stype, self.data)  # a tensor would drag its whole storage along

    def numpy(self) -> np.ndarray:
        return self.tensor.detach().numpy()


class JsonRecord(ConfigRecord):
    """A record of one JSON text that holds its ``value`` and is written only when somebody asks for the text.

    In process nobody does; over a network, or pickled, it is an ordinary record.
    """

    __qualname__ = ConfigRecord.__qualname__  # as with TensorArray

    def __init__(self, value: Any, write: Callable[[Any], str] = json.dumps) -> None:
        super().__init__()
        self.value, self._write = value, write

    def _written(self) -> ConfigRecord:
        return ConfigRecord({JSON: self._write(self.value)})

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
        return self._written()

    def __reduce__(self) -> tuple[type[ConfigRecord], tuple[dict[str, str]]]:
        return ConfigRecord, ({JSON: self._write(self.value)},)


def instruction(task: Task, weights: State, *, node: int) -> Message:
    """Return the message that asks ``node`` to do ``task``."""
    content = RecordDict({"task": JsonRecord(task, Task.to_json), "weights": _record(weights)})
    kind = MessageType.TRAIN if task.kind == "train" else SCORE_QUERY
    return Message(content, dst_node_id=node, message_type=kind, group_id=str(task.version))


def introduction_request(node: int) -> Message:
    """Return the message that asks a new node who it is."""
    return Message(RecordDict(), dst_node_id=node, message_type=MessageType.QUERY)


def introduction_reply(request: Message, introduction: Introduction) -> Message:
    return Message(RecordDict({"result": JsonRecord(asdict(introduction))}), reply_to=request)


def read_introduction(reply: Message) -> Introduction:
    """Return what a node says of itself; RefusedUpdate if it is not an introduction."""
    value = read_result(reply)
    try:
        budget = Budget.from_json({key: value[key] for key in ("keep", "memory_bytes", "speed")})
        return Introduction(**{**value, "class_counts": tuple(value["class_counts"]), **vars(budget)})
    except (KeyError, TypeError, ValueError) as error:
        raise RefusedUpdate("malformed", f"the reply is not an introduction: {error!r}") from error


def read_task(request: Message) -> Task:
    record = request.content["task"]
    if isinstance(record, JsonRecord) and isinstance(record.value, Task):
        return record.value
    return Task.from_json(str(record[JSON]))


def weights_into(request: Message, task: Task, vector: Tensor) -> None:
    """Write the instruction's weights end to end into ``vector``, which has exactly their length."""
    record = request.content.array_records["weights"]
    for name, view in views(vector, spans_of(layout_of(task.shape), task.plan.counts)).items():
        view.copy_(_tensor(record[name]))


def result_reply(request: Message, task: Task, facts: Mapping[str, Any], vector: Tensor) -> Message:
    """Return the reply to an instruction: a train result travels by parameter name, anything else as one vector.

    An empty vector is the result of a task that nobody trained (a dry run's): it has no arrays.
    """
    arrays = {VECTOR: vector} if vector.numel() else {}
    if task.kind == "train" and vector.numel():
        arrays = views(vector, spans_of(layout_of(task.shape), task.plan.counts))
    content = RecordDict({"result": JsonRecord(dict(facts)), "arrays": _record(arrays)})
    return Message(content, reply_to=request)


def read_result(reply: Message) -> dict[str, Any]:
    """Return the facts of a reply; RefusedUpdate if it has none."""
    try:
        record = reply.content["result"]
        value = record.value if isinstance(record, JsonRecord) else json.loads(str(record[JSON]))
    except (KeyError, ValueError) as error:
        raise RefusedUpdate("malformed", f"the reply has no readable result: {error!r}") from error
    if not isinstance(value, dict):
        raise RefusedUpdate("malformed", f"the result is not an object but {type(value).__name__}")
    return value


def read_budget(facts: Mapping[str, Any]) -> Budget | None:
    """Return what the facts of a reply say the client can afford now, None if they say nothing of it."""
    try:
        return None if facts.get("budget") is None else Budget.from_json(facts["budget"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RefusedUpdate("malformed", f"the reply's budget cannot be read: {error!r}") from error


def loss_reply(request: Message, reason: str, detail: str, figures: Mapping[str, float], **facts: Any) -> Message:
    """Return the error that stands for a lost task; ``figures`` are its spans, joules and bytes until then."""
    text = json.dumps({"reason": reason, "detail": detail, "figures": dict(figures), **facts})
    return Message(Error(code=LOST, reason=text), reply_to=request)


def read_error(error: Error) -> tuple[str, str, dict[str, float]]:
    """Return an error's short name, its detail, and the figures of a lost task (empty for any other error)."""
    if error.code == LOST:
        try:
            loss = json.loads(error.reason or "")
            return str(loss["reason"]), str(loss["detail"]), {key: loss["figures"][key] + 0 for key in FIGURES}
        except (KeyError, TypeError, ValueError):  # not from a simulated board
            pass
    return f"error-{error.code}", error.reason or "", {}


def error_budget(error: Error) -> Budget | None:
    """Return what the loser of a task says that it can afford now, None if it says nothing of it."""
    try:
        return read_budget(json.loads(error.reason or "")) if error.code == LOST else None
    except (RefusedUpdate, ValueError):  # not from a simulated board
        return None


def read_arrays(reply: Message) -> State:
    """Return the tensors of a reply; RefusedUpdate if they cannot be read."""
    try:
        record = reply.content["arrays"]
        if not isinstance(record, ArrayRecord):
            raise TypeError(f"arrays must be an ArrayRecord, got {type(record).__name__}")
        return {name: _tensor(array) for name, array in record.items()}
    except Exception as error:  # bytes from outside: numpy raises nearly anything over them
        raise RefusedUpdate("malformed", f"the reply's arrays cannot be read: {error!r}") from error


def _record(tensors: Mapping[str, Tensor]) -> ArrayRecord:
    record = ArrayRecord()
    for name, tensor in tensors.items():
        record[name] = TensorArray(tensor)
    return record


def _tensor(array: Array) -> Tensor:
    if isinstance(array, TensorArray):
        return array.tensor
    values = array.numpy()
    if not np.issubdtype(values.dtype, np.floating):
        raise TypeError(f"an array must hold floats, got {values.dtype}")
    return torch.from_numpy(values).float()
