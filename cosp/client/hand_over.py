"""How a process without torch has the board's trainer do a task: a caller of :mod:`cosp.client.daemon`."""

from __future__ import annotations

import socket
import time
from contextlib import closing
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple, TypeVar

import numpy as np

from cosp.client.protocol import (
    BUSY,
    FLOAT_BYTES,
    TrainerError,
    floats,
    read_listing,
    receive_answer,
    receive_bytes,
    send_bytes,
    send_frame,
    shake_hands,
)
from cosp.errors import CospError

RETRY_S = 0.2
WAIT_S = 60.0
"""How long a trainer may be starting, or busy with a task that nobody waits for any more."""

Arrays = Dict[str, np.ndarray]
Answer = TypeVar("Answer")


def describe(path: Path, *, wait_s: float = WAIT_S) -> Dict[str, Any]:
    """Return what the trainer at ``path`` says of itself and its data."""

    def ask(connection: socket.socket) -> Dict[str, Any]:
        send_frame(connection, {"do": "describe"})
        return receive_answer(connection)

    return _ask(path, ask, wait_s)


def hand_over(
    path: Path, task: str, read: Callable[[str], np.ndarray], *, wait_s: float = WAIT_S
) -> Tuple[Dict[str, Any], Arrays]:
    """Have the trainer at ``path`` do the task of the JSON text ``task``; return facts and arrays.

    ``read`` returns the weights of a name; it is called as they are sent, so that one array is held at a time. A
    trainer that is starting or busy is asked again for ``wait_s``; TrainerError if it cannot do the task,
    ConnectionLost if it dies over it.
    """

    def ask(connection: socket.socket) -> Tuple[Dict[str, Any], Arrays]:
        send_frame(connection, {"do": "task", "task": task})
        for name, shape in read_listing(receive_answer(connection).get("send")):
            send_bytes(connection, np.ascontiguousarray(_checked(name, read(name), shape), "<f4"))
        connection.settimeout(None)  # a task takes as long as it takes; a dead trainer closes the connection
        answer = receive_answer(connection)
        listing = read_listing(answer.get("arrays"))
        vector = np.frombuffer(receive_bytes(connection, FLOAT_BYTES * floats(listing)), "<f4")
        ends = np.cumsum([np.prod(shape, dtype=np.int64) for _, shape in listing])[:-1]
        parts: List[np.ndarray] = np.split(vector, ends)
        return answer["facts"], {name: part.reshape(shape) for (name, shape), part in zip(listing, parts)}

    return _ask(path, ask, wait_s)


def _checked(name: str, array: np.ndarray, shape: Tuple[int, ...]) -> np.ndarray:
    if array.shape != shape:
        raise CospError(f"{name}: the task needs shape {shape}, the server sent {array.shape}")
    return array


def _ask(path: Path, ask: Callable[[socket.socket], Answer], wait_s: float) -> Answer:
    """Connect, say hello, ``ask``; again while nobody listens or the trainer is busy, up to ``wait_s``."""
    until_s = time.monotonic() + wait_s
    while True:
        try:
            with closing(_connect(path)) as connection:
                shake_hands(connection)
                return ask(connection)
        except (ConnectionRefusedError, FileNotFoundError) as error:
            why = f"no trainer listens at {path} ({error}); start one: cosp trainer --socket {path}"
        except TrainerError as error:
            if error.code != BUSY:
                raise
            why = f"{path}: {error}"
        if time.monotonic() > until_s:
            raise CospError(why)
        time.sleep(RETRY_S)


def _connect(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(WAIT_S)
    try:
        connection.connect(str(path))
    except OSError:
        connection.close()
        raise
    return connection
