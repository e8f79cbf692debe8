"""How a process without torch has the board's trainer do a task: a caller of :mod:`cosp.trainer.daemon`."""

from __future__ import annotations

import socket
import time
from contextlib import closing
from pathlib import Path
from typing import Any, Callable, Dict, Tuple, TypeVar

import numpy as np

from cosp.errors import CospError
from cosp.trainer.protocol import (
    BUSY,
    ConnectionLost,
    ProtocolError,
    TrainerError,
    count_in,
    receive_answer,
    receive_bytes,
    send_bytes,
    send_frame,
    shake_hands,
)

FORMATS = {name: np.dtype(name).newbyteorder("<") for name in ("float32", "int8", "uint8")}
"""What a result may be made of."""

RETRY_S = 0.2
WAIT_S = 60.0
"""How long a trainer may be starting, or busy with a task that nobody waits for any more."""

Answer = TypeVar("Answer")


def describe(path: Path, *, wait_s: float = WAIT_S, words: bool = False) -> Dict[str, Any]:
    """Return what the trainer at ``path`` says of itself and its data; with ``words`` also which its texts use."""

    def ask(connection: socket.socket) -> Dict[str, Any]:
        send_frame(connection, {"do": "describe", **({"words": True} if words else {})})
        return receive_answer(connection)

    return _ask(path, ask, wait_s)


def hand_over(
    path: Path, task: str, weights: np.ndarray, *, wait_s: float = WAIT_S
) -> Tuple[Dict[str, Any], np.ndarray]:
    """Have the trainer at ``path`` do the task of the JSON text ``task`` on ``weights``; return its facts and vector.

    ``weights`` are sent as float32, or as bytes if they are that. The vector is float32, a weight change packed into
    int8, or a mask's bytes.

    A trainer that is starting or busy is asked again for ``wait_s``; TrainerError if it cannot do the task,
    ConnectionLost if it dies over it.
    """
    vector = np.ascontiguousarray(weights, weights.dtype if weights.dtype == np.uint8 else "<f4").reshape(-1)

    def ask(connection: socket.socket) -> Tuple[Dict[str, Any], np.ndarray]:
        try:
            return _given(connection, {"do": "task", "task": task}, vector)
        except ConnectionLost:
            raise ConnectionLost(
                f"the trainer at {path} died over the task, or was stopped: its log or `dmesg` says why; if it was "
                "killed for memory, give the node a smaller --keep or the run a smaller training.batch_size"
            ) from None

    return _ask(path, ask, wait_s)


def hand_ask(path: Path, ask: str, message: bytes, *, wait_s: float = WAIT_S) -> Tuple[Dict[str, Any], np.ndarray]:
    """Have the trainer at ``path`` answer what came of its stream, as the JSON text ``ask`` says, and take the set in
    ``message``; return its facts and the bytes of its report. Errors are those of :func:`hand_over`.
    """
    question = {"do": "serve", "ask": ask, "count": len(message)}
    return _ask(path, lambda connection: _given(connection, question, np.frombuffer(message, np.uint8)), wait_s)


def _given(
    connection: socket.socket, question: Dict[str, Any], vector: np.ndarray
) -> Tuple[Dict[str, Any], np.ndarray]:
    send_frame(connection, question)
    wanted = count_in(receive_answer(connection), "send")
    if wanted != len(vector):
        what = "bytes" if vector.dtype == np.uint8 else "weights"
        raise CospError(f"the task starts from {wanted} {what}, the server sent {len(vector)}")
    send_bytes(connection, vector)
    connection.settimeout(None)  # a task takes as long as it takes; a dead trainer closes the connection
    answer = receive_answer(connection)
    numbers = FORMATS.get(str(answer.get("dtype")))
    if numbers is None:
        raise ProtocolError(f"dtype: must be one of {tuple(FORMATS)}, got {answer.get('dtype')!r}")
    found = receive_bytes(connection, numbers.itemsize * count_in(answer, "count"))
    return answer["facts"], np.frombuffer(found, numbers)


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
        except BlockingIOError:
            why = (
                f"{path}: more callers than the trainer lets wait in line; see who calls it: ss -xp | grep {path.name}"
            )
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
