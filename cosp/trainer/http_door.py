"""A model behind HTTP, for this machine alone: ``POST /`` a picture or arrays, ``GET /`` says what answers.

The body of a POST is an encoded image (JPEG, PNG, ...) or raw samples as numpy saves an array, ``.npy``. The reply is
JSON: ``answers``, one a sample, ``ms`` for all of them, ``watts`` that the board drew meanwhile, null without a sensor.
"""

from __future__ import annotations

import contextlib
import io
import json
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Dict, Optional, Type

import numpy as np

from cosp.errors import CospError, UserError
from cosp.trainer.answering import Answering

HERE = "127.0.0.1"
MOST_BYTES = 64 << 20
NPY = b"\x93NUMPY"
PATIENCE_S = 30.0


def door(answering: Answering, port: int) -> ThreadingHTTPServer:
    """Return the server of ``answering`` at ``port`` of this machine, 0 for a free one; UserError if it is taken."""
    handler: Type[BaseHTTPRequestHandler] = type("_Caller", (_Caller,), {"answering": answering})
    try:
        server = ThreadingHTTPServer((HERE, port), handler)
    except OSError as error:
        raise UserError(f"--port {port}: cannot be listened at ({error.strerror}); give another") from None
    server.daemon_threads = True
    return server


class _Caller(BaseHTTPRequestHandler):
    answering: Answering
    timeout = PATIENCE_S
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._reply(200, self.answering.about())

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > MOST_BYTES:
            self.close_connection = True  # what follows is not read
            self._reply(413, {"error": f"a body of at most {MOST_BYTES} bytes is read, with its Content-Length"})
            return
        body = self.rfile.read(int(length))
        started_s, watts = time.perf_counter(), self._watts()
        try:
            answers = self.answering.arrays(_array(body)) if body.startswith(NPY) else self.answering.picture(body)
        except CospError as error:
            self._reply(400, {"error": str(error)})
            return
        measured = [value for value in (watts, self._watts()) if value is not None]
        self._reply(
            200,
            {
                "answers": answers,
                "ms": 1e3 * (time.perf_counter() - started_s),
                "watts": sum(measured) / len(measured) if measured else None,
            },
        )

    def _watts(self) -> Optional[float]:
        meter = self.answering.meter
        with contextlib.suppress(OSError, ValueError):  # a bus is busy at times
            return None if meter is None else meter.read_w()
        return None

    def _reply(self, code: int, value: Dict[str, Any]) -> None:
        body = json.dumps(value).encode() + b"\n"
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing of each request."""


def _array(body: bytes) -> np.ndarray:
    try:
        found: np.ndarray = np.load(io.BytesIO(body), allow_pickle=False)
        return found
    except Exception as error:  # bytes from outside: numpy raises nearly anything over a header
        raise UserError(f"the body is no array that numpy saved ({error})") from None
