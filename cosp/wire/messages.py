"""Tasks and results as Flower messages, with torch's tensors; how they lie in records is said in ``records``.

A task that a simulated board lost is an error whose reason is a JSON text: why, and what the task took until then.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from contextlib import suppress
from io import BytesIO
from typing import Any

import numpy as np
import torch
from flwr.app import Array, Error, Message, MessageType
from torch import Tensor

from cosp.errors import RefusedUpdate
from cosp.fleet.introduction import Budget, Introduction
from cosp.submodel.flat import Spans, views
from cosp.submodel.slicing import State
from cosp.task.bits import bits_sent
from cosp.task.compression import pack
from cosp.task.payload import from_payload, sends_whole_numbers, to_payload
from cosp.task.sent import apart, in_bytes, sent_bytes, to_bytes
from cosp.task.serial import task_from_json, task_to_json
from cosp.task.task import Task
from cosp.wire import door, records
from cosp.wire.door import LOST, Facts
from cosp.wire.records import JsonRecord

SCORE_QUERY = f"{MessageType.QUERY}.score"
STYPE = "numpy.ndarray"
DOUBLE_BYTES = 8
"""An older board may send its numbers in any precision."""


class TensorArray(Array):
    """A Flower Array that holds its tensor and is serialised only when somebody asks for the bytes.

    In process nobody does, so nothing is copied; over a network, or pickled, it is an ordinary array.
    """

    __qualname__ = Array.__qualname__  # Flower writes the class's name on the wire and reads it back as that class

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        self.dtype = "float32"
        self.shape = tuple(tensor.shape)
        self.stype = STYPE

    @property
    def data(self) -> bytes:  # type: ignore[override]
        buffer = BytesIO()
        np.save(buffer, self.numpy(), allow_pickle=False)
        return buffer.getvalue()

    def __reduce__(self) -> tuple[type[Array], tuple[str, tuple[int, ...], str, bytes]]:
        return Array, (self.dtype, self.shape, self.stype, self.data)  # a tensor would drag its whole storage along

    def numpy(self) -> np.ndarray:
        return self.tensor.detach().numpy()


class PackedArray(TensorArray):
    """``floats`` entries of tensors end to end as one Array, put together only when somebody asks for the bytes.

    Those that a client has ``kept`` are not in the bytes.
    """

    __qualname__ = Array.__qualname__

    def __init__(
        self, tensors: Mapping[str, Tensor], dtype: str, floats: int, model: State | None, kept: Collection[str] = ()
    ) -> None:
        self.tensors = tensors
        self.model = model
        self._kept = kept
        self.dtype = dtype
        self.shape = (floats,)
        self.stype = STYPE

    def numpy(self) -> np.ndarray:
        whole, start = np.empty(self.shape, dtype=self.dtype), 0
        for name in self.tensors:  # one at a time: each may be cut out only now
            if name in self._kept:
                continue
            values = self.tensors[name].detach().numpy().reshape(-1)
            whole[start : start + values.size] = values
            start += values.size
        return whole


class BytesArray(PackedArray):
    """The same of weights in two formats, as bytes: see ``cosp.task.sent``."""

    __qualname__ = Array.__qualname__

    def __init__(self, tensors: Mapping[str, Tensor], task: Task, model: State | None) -> None:
        super().__init__(tensors, "uint8", sent_bytes(task) if tensors else 0, model)
        self._task = task

    def numpy(self) -> np.ndarray:
        return to_bytes(self._task, self.tensors) if self.tensors else np.empty(0, np.uint8)


class ChangeArray(TensorArray):
    """A weight change, packed into whole numbers only when somebody asks for the bytes."""

    __qualname__ = Array.__qualname__

    def __init__(self, tensor: Tensor, spans: Spans) -> None:
        super().__init__(tensor)
        self.spans = spans
        self.dtype = "int8"
        self.shape = (len(spans) + tensor.numel(),)

    def numpy(self) -> np.ndarray:
        return pack(self.tensor, self.spans)


def instruction(task: Task, weights: Mapping[str, Tensor], *, node: int, model: State | None = None) -> Message:
    """Return the message that asks ``node`` to do ``task``; a dry run's has no weights.

    ``model``: what the weights are cut from; stays here.
    """
    if in_bytes(task):
        array: PackedArray = BytesArray(weights, task, model)
    else:
        kept = {name for name, _ in task.kept}
        array = PackedArray(weights, task.compression.down, task.sent if weights else 0, model, kept)
    content = records.instruction_content(JsonRecord(task, task_to_json), array)
    kind = MessageType.TRAIN if task.kind == "train" else SCORE_QUERY
    return Message(content, dst_node_id=node, message_type=kind, group_id=str(task.version))


def introduction_request(node: int, why: str = "", *, words: bool = False) -> Message:
    """Return the message that asks a node who it is, and with ``words`` which words its texts use; it says ``why`` the
    node was kept out if it was asked before.
    """
    content = records.introduction_question(why, words=words)
    return Message(content, dst_node_id=node, message_type=MessageType.QUERY)


def read_introduction(reply: Message) -> Introduction:
    """Return what a node says of itself; RefusedUpdate if it is not an introduction."""
    record = reply.content.get(records.RESULT)
    if isinstance(record, JsonRecord) and isinstance(record.value, Introduction):
        return record.value
    return door.introduction_of(read_result(reply))


def read_task(request: Message) -> Task:
    record = request.content[records.TASK]
    if isinstance(record, JsonRecord) and isinstance(record.value, Task):
        return record.value
    return task_from_json(records.task_text(request))


def weights_into(request: Message, task: Task, vector: Tensor) -> None:
    """Write the instruction's weights end to end into ``vector``, which has exactly their length."""
    array = records.weights_of(request)
    if isinstance(array, PackedArray):
        for name, view in views(vector, task.spans).items():
            view.copy_(array.tensors[name])
    elif in_bytes(task):
        trained, frozen = apart(task, torch.from_numpy(_own(array.numpy())))
        vector.copy_(torch.cat([frozen.float(), trained]))
    else:
        vector.copy_(_tensor(array))


def model_of(request: Message) -> State | None:
    """Return the model that an instruction's weights were cut from, None if it has come from elsewhere."""
    array = records.weights_of(request)
    return array.model if isinstance(array, PackedArray) else None


def result_reply(request: Message, facts: Mapping[str, Any], vector: Tensor) -> Message:
    """Return the reply to an instruction: what the task found, and its weight change, mask or scores.

    An empty vector is the weight change of a task that nobody trained (a dry run's).
    """
    return records.reply(request, facts, _result_array(read_task(request), vector))


def _result_array(task: Task, vector: Tensor) -> Array:
    if not vector.numel():
        return TensorArray(vector)
    if bits_sent(task):
        return Array(to_payload(task, vector))
    return ChangeArray(vector, task.trained_spans) if sends_whole_numbers(task) else TensorArray(vector)


def read_result(reply: Message) -> dict[str, Any]:
    """Return what a reply says beside its numbers, as it says it; RefusedUpdate if it says nothing that can be read."""
    try:
        record = reply.content[records.RESULT]
        if isinstance(record, JsonRecord) and isinstance(record.value, dict):
            return record.value
        text = record[records.JSON]
    except (KeyError, TypeError, ValueError) as error:
        raise RefusedUpdate("malformed", f"the reply has no readable result: {error!r:.200}") from error
    return door.json_of(text)


def read_facts(reply: Message, task: Task) -> Facts:
    """Return what the reply to ``task`` says beside its numbers; RefusedUpdate if any of it is not as it must be."""
    priced = isinstance(reply.content.get(records.RESULT), JsonRecord)  # which no network delivers
    return door.facts_of(read_result(reply), task.kind, priced=priced)


def loss_reply(request: Message, reason: str, detail: str, figures: Mapping[str, float], **facts: Any) -> Message:
    """Return the error that stands for a lost task; ``figures`` are its spans, joules and bytes until then."""
    text = json.dumps({"reason": reason, "detail": detail, "figures": dict(figures), **facts})
    return Message(Error(code=LOST, reason=text), reply_to=request)


def read_error(error: Error) -> tuple[str, str, dict[str, float]]:
    """Return an error's short name, one of ``door.REASONS``; its detail; and the figures of a lost task (empty for any
    other error).
    """
    reason = error.reason or ""
    if error.code == LOST:
        with suppress(RefusedUpdate):  # not from a simulated board
            return door.loss_of(reason)
    return door.error_named(error.code), door.cleaned(str(reason), door.MOST_DETAIL), {}


def error_budget(error: Error) -> Budget | None:
    """Return what the loser of a task says that it can afford now, None if it says nothing of it."""
    with suppress(RefusedUpdate):  # not from a simulated board
        if error.code == LOST and (told := door.json_of(error.reason).get("budget")) is not None:
            return door.budget_of(told)
    return None


def read_vector(reply: Message, *, most_bytes: int = 1 << 26) -> Tensor:
    """Return the numbers of a reply end to end; RefusedUpdate if they cannot be read or are more than that."""
    return _floats(array_of(reply), most_bytes)


def read_update(reply: Message, task: Task) -> State:
    """Return the weight change of a train task by name, or its mask; RefusedUpdate if it has another length."""
    vector = _read_found(reply, task)
    if not vector.numel():  # nobody trained it
        return {}
    try:
        return views(vector, task.trained_spans)
    except ValueError as error:
        raise RefusedUpdate("malformed", f"the weight change: {error}") from None


def _read_found(reply: Message, task: Task) -> Tensor:
    """Return the weight change of a reply, or its mask as zeros and ones; empty if nobody trained it."""
    array = array_of(reply)
    if isinstance(array, TensorArray):
        return array.tensor.reshape(-1)
    numbers = door.numbers_of(array.data, most=DOUBLE_BYTES * task.trained)
    if not numbers.size:
        return torch.empty(0)
    try:
        return from_payload(task, _own(numbers))
    except ValueError as error:
        raise RefusedUpdate("malformed", f"the reply's arrays cannot be read: {error}") from error


def array_of(reply: Message) -> Array:
    """Return the array of a reply, not decoded; RefusedUpdate if there is none."""
    try:
        array = records.arrays_of(reply)
    except (KeyError, TypeError, ValueError) as error:
        raise RefusedUpdate("malformed", f"the reply has no arrays: {error!r:.200}") from error
    if not isinstance(array, Array) or array.stype != STYPE:
        raise RefusedUpdate("malformed", f"the reply's arrays cannot be read: not {STYPE}")
    return array


def _floats(array: Array, most_bytes: int) -> Tensor:
    if isinstance(array, TensorArray):
        return array.tensor.reshape(-1)
    numbers = door.numbers_of(array.data, most=most_bytes)
    if numbers.dtype.kind != "f":
        raise RefusedUpdate("malformed", f"the reply's arrays cannot be read: {numbers.dtype} is no float")
    return torch.from_numpy(_own(numbers)).float()


def _own(numbers: np.ndarray) -> np.ndarray:
    """Return a copy in this machine's order of bytes: a tensor must be able to write to what it lies on."""
    return numbers.astype(numbers.dtype.newbyteorder("="))


def _tensor(array: Array) -> Tensor:
    if isinstance(array, TensorArray):
        return array.tensor
    values = array.numpy()
    if not np.issubdtype(values.dtype, np.floating):
        raise TypeError(f"an array must hold floats, got {values.dtype}")
    return torch.from_numpy(values).float()
