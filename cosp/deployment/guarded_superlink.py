"""Flower's SuperLink, with what is the server's own business kept from the network.

Flower 1.41 serves boards, the ``flwr`` command and SuperExec on one port, and asks only boards who they are: whoever
reaches the port may let boards in, or start a run, which is to run code on the server. Here only boards' requests may
come from elsewhere; everything else must come from this machine.
"""

from __future__ import annotations

import ipaddress
from typing import Any

from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse

FOR_BOARDS = "/v1/fleet/"


class LocalUnlessForBoards:
    """ASGI middleware: 403 for a request from another machine that is not a board's."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] in ("http", "websocket") and not _allowed(scope):
            refusal = PlainTextResponse("only boards may call from another machine", status_code=403)
            return await refusal(scope, receive, send)
        return await self._app(scope, receive, send)  # type: ignore[no-any-return]


def _allowed(scope: Any) -> bool:
    path: str = scope["path"]
    if path.startswith(FOR_BOARDS) and ".." not in path:
        return True
    caller = scope.get("client")
    return caller is not None and ipaddress.ip_address(caller[0]).is_loopback


def main() -> None:
    """Run ``flower-superlink`` with its own arguments, behind the middleware."""
    from flwr.superlink import extensions
    from flwr.superlink.cli.flower_superlink import flower_superlink

    extensions.get_middleware = lambda: (Middleware(LocalUnlessForBoards),)
    flower_superlink()


if __name__ == "__main__":
    main()
