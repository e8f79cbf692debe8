"""How a trainer process and whoever hands it tasks talk over a Unix socket. Knows neither torch nor Flower.

Both begin with a hello: protocol and version of cosp. Then the caller asks, once:

- ``{"do": "describe"}``; the trainer answers with one frame of facts. ``"words": true`` beside it asks for the numbers
  of the words of its texts, too, as ``words``.
- ``{"do": "task", "task": JSON text}``; the trainer answers ``{"send": N}``, how many weights it has not kept. They
  follow, raw float32, in the layout's order, those that are frozen first; or N bytes, where frozen ones are halves
  (``cosp.task.sent``). When the task is done it answers
  ``{"facts": {...}, "dtype": NAME, "count": N}``, and what it found follows: scores, moments or a weight change as
  float32, a weight change packed into int8, or a mask as uint8, eight weights a byte.

- ``{"do": "serve", "ask": JSON text, "count": N}``; the trainer answers ``{"send": N}``, and N bytes follow: a set that
  it is to have, or none. It answers as to a task; what it found are the bytes of a report.

Instead of any answer there may be ``{"error": CODE, "detail": TEXT}``. Closing the connection cancels the task. A frame
is a length and a JSON object; only arrays are long, and both sides know their length before they begin.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from typing import Any, Dict, Mapping, Optional

import cosp
from cosp.errors import CospError

PROTOCOL = 2
FRAME_LIMIT_BYTES = 1 << 20
"""A frame holds a task, the names of some hundred tensors or the numbers of some thousand words: kilobytes."""

BUSY, CANCELLED, FAILED, REFUSED = "busy", "cancelled", "failed", "refused"

FLOAT_BYTES = 4
_LENGTH = struct.Struct("!I")


class ConnectionLost(CospError):
    """The other side is gone."""


class ProtocolError(CospError):
    """The other side speaks another protocol, or nonsense."""


class TrainerError(CospError):
    """The trainer answered with an error; ``code`` is one of BUSY, CANCELLED, FAILED, REFUSED."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


def shake_hands(connection: socket.socket) -> str:
    """Exchange hellos and return the other side's version of cosp; ProtocolError if its protocol is another."""
    send_frame(connection, {"protocol": PROTOCOL, "cosp": cosp.__version__})
    hello = receive_frame(connection)
    if hello.get("protocol") != PROTOCOL:
        raise ProtocolError(
            f"the other side speaks protocol {hello.get('protocol')} (cosp {hello.get('cosp')}), this one {PROTOCOL} "
            f"(cosp {cosp.__version__}): install the same cosp for trainer and client"
        )
    return str(hello.get("cosp"))


def send_frame(connection: socket.socket, value: Mapping[str, Any]) -> None:
    """Send one JSON object; ConnectionLost if nobody listens."""
    text = json.dumps(value).encode()
    if len(text) > FRAME_LIMIT_BYTES:
        raise ProtocolError(f"a frame has at most {FRAME_LIMIT_BYTES} bytes, this one {len(text)}")
    send_bytes(connection, _LENGTH.pack(len(text)) + text)


def receive_frame(connection: socket.socket) -> Dict[str, Any]:
    """Return the next JSON object; ConnectionLost at the end, ProtocolError for anything else."""
    (length,) = _LENGTH.unpack(receive_bytes(connection, _LENGTH.size))
    if length > FRAME_LIMIT_BYTES:
        raise ProtocolError(f"a frame has at most {FRAME_LIMIT_BYTES} bytes, the other side announces {length}")
    try:
        value = json.loads(bytes(receive_bytes(connection, length)))
    except ValueError as error:
        raise ProtocolError(f"a frame must be JSON: {error}") from None
    if not isinstance(value, dict):
        raise ProtocolError(f"a frame must be a JSON object, got {type(value).__name__}")
    return value


def receive_answer(connection: socket.socket) -> Dict[str, Any]:
    """Return the trainer's next frame; TrainerError if it is an error."""
    answer = receive_frame(connection)
    if "error" in answer:
        raise TrainerError(str(answer["error"]), str(answer.get("detail", "")))
    return answer


def send_bytes(connection: socket.socket, data: Any) -> None:
    """Send a bytes-like object whole."""
    try:
        connection.sendall(data)
    except OSError as error:
        raise ConnectionLost(f"the connection broke while sending ({error})") from None


def receive_bytes(connection: socket.socket, length: int, *, within_s: Optional[float] = None) -> bytearray:
    """Return exactly ``length`` bytes, received in place; ConnectionLost if they have not all come ``within_s``.

    Without it the connection's own timeout counts, which begins anew with every byte that comes.
    """
    data = bytearray(length)
    left = memoryview(data)
    patience_s, ends_s = connection.gettimeout(), time.monotonic() + (within_s or 0.0)
    while left:
        if within_s is not None:
            connection.settimeout(max(1e-3, ends_s - time.monotonic()))
        try:
            count = connection.recv_into(left)
        except OSError as error:
            raise ConnectionLost(f"the connection broke while receiving ({error})") from None
        if not count:
            raise ConnectionLost(f"the connection ended {len(left)} bytes too early")
        left = left[count:]
        if within_s is not None and left and time.monotonic() > ends_s:
            raise ConnectionLost(f"{len(left)} of {length} bytes had not come after {within_s:.0f} s")
    connection.settimeout(patience_s)
    return data


def count_in(answer: Mapping[str, Any], key: str) -> int:
    """Return how many numbers a frame announces; ProtocolError if it does not say."""
    count = answer.get(key)
    if not isinstance(count, int) or count < 0:
        raise ProtocolError(f"{key}: must be a number, 0 or more, got {count!r}")
    return count
