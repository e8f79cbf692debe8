"""Serve the page to this machine alone. No address of another is named, none is asked, and nothing is written."""

from __future__ import annotations

import json
import threading
from contextlib import AbstractContextManager
from functools import cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import Any

from cosp.errors import UserError
from cosp.report.palette import look
from cosp.run.directory import NOW
from cosp.watch.follow import Follow

ADDRESS = "127.0.0.1"
PORT = 8642
"""Tried first, so that a page that is open finds the next run's server again."""
OURS = {"127.0.0.1", "localhost"}
"""Names by which a browser may ask. Another is a page's that made its own name lead here (DNS rebinding)."""
KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def check_run(folder: Path) -> None:
    """UserError unless ``folder`` is a run's, be it one that has not written a row yet."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such directory; give the --out folder of a `cosp run`")
    rows = folder / "rows.jsonl"
    try:
        if rows.exists():
            with rows.open("rb") as file:
                line = file.readline(1_000_000)
            is_run = not line.endswith(b"\n") or json.loads(line).get("kind") == "run"
        else:
            is_run = (folder / NOW).exists() or b"\nversions:" in (folder / "config.yaml").read_bytes()
    except FileNotFoundError:
        is_run = False
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be read ({error.strerror}); give a run that you may read") from None
    except (AttributeError, ValueError):
        is_run = False
    if not is_run:
        raise UserError(f"{folder}: holds no run; give the --out folder of a `cosp run`")


class Watch(AbstractContextManager["Watch"]):
    """A server in a thread of this process, from its making until it is closed."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        """Listen at ``port``, or where there is room; UserError if the port that was asked for is taken."""
        self._server = _listen(port)
        self._server.follow = Follow(folder)
        self._thread = threading.Thread(target=self._server.serve_forever, name="cosp-watch", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://{ADDRESS}:{self._server.server_address[1]}/"

    def wait(self) -> None:
        """Serve until somebody interrupts."""
        self._thread.join()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


def _listen(port: int | None) -> _Server:
    try:
        return _Server((ADDRESS, port or PORT), _Handler)
    except OSError as error:
        if port is not None:
            raise UserError(f"--port: {port} cannot be used ({error.strerror}); leave it out or give another") from None
    return _Server((ADDRESS, 0), _Handler)  # the next that is free


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    follow: Follow

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(address, handler)
        self._reads = threading.Lock()

    def state(self) -> bytes:
        with self._reads:  # several windows may look at once
            return json.dumps(self.follow.state(), separators=(",", ":")).encode()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away in the middle is no news."""


@cache
def _page() -> dict[str, tuple[str, bytes]]:
    """What there is to ask for beside ``/state``: path -> type and bytes."""
    room = files("cosp.watch")
    css = look() + room.joinpath("watch.css").read_text(encoding="utf-8")
    texts = {name: room.joinpath(name).read_text(encoding="utf-8") for name in ("watch.html", "watch.js", "charts.js")}
    found = {f"/{name}": text for name, text in (texts | {"watch.css": css}).items()}
    found["/"] = found.pop("/watch.html")
    kinds = {path: KINDS[path.rpartition(".")[2]] if path != "/" else KINDS["html"] for path in found}
    return {path: (kinds[path], text.encode()) for path, text in found.items()}


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "cosp"
    sys_version = ""
    timeout = 30

    def do_GET(self) -> None:
        host = (self.headers.get("Host") or "").rpartition(":")
        if (host[0] or host[2]).lower() not in OURS:
            self._send(HTTPStatus.FORBIDDEN, "text/plain", b"cosp answers 127.0.0.1 and localhost alone\n")
        elif self.path == "/state":
            self._send(HTTPStatus.OK, "application/json", self.server.state())
        elif self.path in _page():
            self._send(HTTPStatus.OK, *_page()[self.path])
        else:
            self._send(HTTPStatus.NOT_FOUND, "text/plain", b"no such page\n")

    def _send(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """The terminal is the run's."""
