"""What keeps a server from serving boards, looked for in the order in which it would fail; ``cosp doctor``."""

from __future__ import annotations

import shutil
import socket
import ssl
import stat
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

from cosp.deployment.certificate import key_pair
from cosp.deployment.control import Control
from cosp.deployment.finding import Finding, failed, until_failed, warning
from cosp.deployment.superlink import CONNECTION, home_of
from cosp.errors import CospError

PATIENCE_S = 5.0
LEAST_FREE_BYTES = 1 << 30
AFTER_STATE = ("disk", "certificate", "port", "boards")


def server_findings(state: Path) -> Iterator[Finding]:
    """Look at everything that the server whose folder is ``state`` needs to serve boards."""
    yield from until_failed(_server(state), AFTER_STATE)
    yield _clock()


def _server(state: Path) -> Iterator[Finding]:
    yield (found := _state(state))
    if found.level == "failed":
        return
    yield _disk(state)
    known = tomllib.loads((home_of(state) / "config.toml").read_text(encoding="utf-8"))["superlink"][CONNECTION]
    ca = Path(known["root-certificates"]) if "root-certificates" in known else None
    if ca is None:
        yield warning("certificate", "none: it was started with --insecure", "for a closed bench only")
    else:
        yield key_pair(ca.parent)
    yield _port(str(known["address"]), ca)
    yield _boards(state)


def _state(state: Path) -> Finding:
    config = home_of(state) / "config.toml"
    if not config.is_file():
        return failed("state", f"{state}: no server's state", "start one: cosp server start --keys KEYS")
    if stat.S_IMODE(state.stat().st_mode) & 0o077:
        return warning("state", f"{state}: others on this machine may read its secrets", f"chmod 700 {state}")
    return Finding(name="state", said=str(state))


def _disk(state: Path) -> Finding:
    free = shutil.disk_usage(state).free
    said = f"{free / 1e9:.1f} GB free at {state}"
    return Finding(name="disk", said=said) if free > LEAST_FREE_BYTES else warning("disk", said, "make room")


def _port(address: str, ca: Path | None) -> Finding:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as plain:
            if ca is not None:
                ssl.create_default_context(cafile=str(ca)).wrap_socket(plain, server_hostname=host).close()
    except ssl.SSLError as error:
        return failed("port", f"{address}: TLS fails ({error.reason or error})", "restart the server with its new keys")
    except OSError as error:
        why = error.strerror or error
        return failed("port", f"{address}: nobody answers ({why})", "start the server: cosp server start")
    over = "" if ca is None else " over TLS"
    return Finding(name="port", said=f"{address} answers{over}; boards need it open from outside")


def _boards(state: Path) -> Finding:
    try:
        nodes = Control(state).nodes()
    except CospError as error:
        return failed("boards", str(error), "see the server's log")
    online = sum(node["status"] == "online" for node in nodes)
    if not nodes:
        return warning("boards", "none is admitted", "cosp server admit keys/*.pub")
    return Finding(name="boards", said=f"{len(nodes)} admitted, {online} online; see cosp server nodes")


def _clock() -> Finding:
    """Boards whose clocks differ by more than seconds are refused, so that somebody should keep this one right."""
    command = ("timedatectl", "show", "--property=NTPSynchronized", "--value")
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        said = ""
    if said == "no":
        return warning("clock", "no time server sets it", "timedatectl set-ntp true; boards must agree to 5 s")
    return Finding(name="clock", said="set by a time server" if said == "yes" else "not known here who sets it")
