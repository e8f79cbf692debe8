"""Tasks and results as Flower messages, with torch's tensors; how they lie in records is said in :mod:`cosp.records`.

A task that a simulated board lost is an error whose reason is a JSON text: why, and what the task took until then.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from io import BytesIO
from typing import Any

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, Error, Message, MessageType, RecordDict
from torch import Tensor

from cosp import records
from cosp.client.task import Task
from cosp.errors import RefusedUpdate
from cosp.models.vit import vit_layout
from cosp.records import VECTOR
from cosp.server.introduction import Introduction
from cosp.submodel.flat import spans_of, views
from cosp.submodel.slicing import State

LOST = 1000  # an error code beyond Flower's own
REASONS = {2: "client-raised", 3: "message-lost", 5: "node-unavailable", 8: "client-died"}
"""Flower's error codes, named as rows name them."""
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


def instruction(task: Task, weights: State, *, node: int) -> Message:
    """Return the message that asks ``node`` to do ``task``."""
    content = records.instruction_content(task.to_json(), _record(weights))
    kind = MessageType.TRAIN if task.kind == "train" else SCORE_QUERY
    return Message(content, dst_node_id=node, message_type=kind, group_id=str(task.version))


def introduction_request(node: int) -> Message:
    """Return the message that asks a new node who it is."""
    return Message(RecordDict(), dst_node_id=node, message_type=MessageType.QUERY)


def read_introduction(reply: Message) -> Introduction:
    """Return what a node says of itself; RefusedUpdate if it is not an introduction."""
    value = read_result(reply)
    try:
        return Introduction(**{**value, "class_counts": tuple(value["class_counts"])})
    except (KeyError, TypeError) as error:
        raise RefusedUpdate("malformed", f"the reply is not an introduction: {error!r}") from error


def read_task(request: Message) -> Task:
    return Task.from_json(records.task_text(request))


def weights_into(request: Message, task: Task, vector: Tensor) -> None:
    """Write the instruction's weights end to end into ``vector``, which has exactly their length."""
    record = records.weights_of(request)
    for name, view in views(vector, spans_of(vit_layout(task.shape), task.plan.counts)).items():
        view.copy_(_tensor(record[name]))


def result_reply(request: Message, task: Task, facts: Mapping[str, Any], vector: Tensor) -> Message:
    """Return the reply to an instruction: a train result travels by parameter name, anything else as one vector."""
    arrays = {VECTOR: vector}
    if task.kind == "train":
        arrays = views(vector, spans_of(vit_layout(task.shape), task.plan.counts))
    return records.reply(request, facts, _record(arrays))


def read_result(reply: Message) -> dict[str, Any]:
    """Return the facts of a reply; RefusedUpdate if it has none."""
    try:
        value = json.loads(str(reply.content.config_records[records.RESULT]["json"]))
    except (KeyError, ValueError) as error:
        raise RefusedUpdate("malformed", f"the reply has no readable result: {error!r}") from error
    if not isinstance(value, dict):
        raise RefusedUpdate("malformed", f"the result is not an object but {type(value).__name__}")
    return value


def loss_reply(request: Message, reason: str, detail: str, figures: Mapping[str, float]) -> Message:
    """Return the error that stands for a lost task; ``figures`` are its spans, joules and bytes until then."""
    text = json.dumps({"reason": reason, "detail": detail, "figures": dict(figures)})
    return Message(Error(code=LOST, reason=text), reply_to=request)


def read_error(error: Error) -> tuple[str, str, dict[str, float]]:
    """Return an error's short name, its detail, and the figures of a lost task (empty for any other error)."""
    if error.code == LOST:
        try:
            loss = json.loads(error.reason or "")
            return str(loss["reason"]), str(loss["detail"]), {key: loss["figures"][key] + 0 for key in FIGURES}
        except (KeyError, TypeError, ValueError):  # not from a simulated board
            pass
    return REASONS.get(error.code, f"error-{error.code}"), error.reason or "", {}


def read_arrays(reply: Message) -> State:
    """Return the tensors of a reply; RefusedUpdate if they cannot be read."""
    try:
        return {name: _tensor(array) for name, array in reply.content.array_records[records.ARRAYS].items()}
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
