"""What keeps a board from taking part, looked for in the order in which it would fail; ``cosp client --check``."""

from __future__ import annotations

import email.utils
import http.client
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from cosp.deployment.certificate import SOON_DAYS, Certificate, now_utc, read_certificate, why_refused
from cosp.deployment.finding import Finding, failed, until_failed, warning
from cosp.errors import CospError
from cosp.trainer.hand_over import describe

PATIENCE_S = 5.0
MOST_AHEAD_S, MOST_BEHIND_S = 5.0, 300.0
"""By how much a board's clock may be off: Flower takes no request that was signed later or earlier than that."""
REFUSED = 401
ADMIT = "on the server: cosp server admit NAME.pub"
AFTER_NAME = ("port", "certificate", "clock", "key")


@dataclass(frozen=True, kw_only=True)
class Ways:
    """How a board reaches its server and its trainer; ``ca`` and ``key`` None: without TLS."""

    host: str
    port: int
    ca: Path | None
    key: Path | None
    trainer: Path


def client_findings(ways: Ways) -> Iterator[Finding]:
    """Look at everything that a board needs to take part."""
    wanted = AFTER_NAME if ways.ca else ("port", "clock")
    yield from until_failed(_server(ways), wanted)
    yield from _trainer(ways.trainer)


def failures(ways: Ways) -> list[str]:
    """Return a line for everything that fails now on the way to the server."""
    return [one.line() for one in until_failed(_server(ways), ()) if one.level == "failed"]


def _server(ways: Ways) -> Iterator[Finding]:
    yield _name(ways)
    yield _port(ways)
    if ways.ca is None or ways.key is None:
        yield _clock(_ahead_s(ways, None))
        return
    trusting, error = _context(ways.ca)
    if trusting is None:
        yield failed("certificate", f"{ways.ca}: cannot be read ({error})", "copy ca.crt from the server")
        return
    refused, shown = _handshake(ways, trusting)
    unseeing = ssl._create_unverified_context()
    ahead_s = None if refused is not None and _speaks_no_tls(refused) else _ahead_s(ways, unseeing)
    if refused is not None:
        if ahead_s is not None and _off(ahead_s):
            yield _clock(ahead_s)
        yield why_refused(refused, ways.host, shown, ahead_s=ahead_s)
        return
    assert shown is not None
    yield _certificate(shown)
    yield _clock(ahead_s)
    yield _key(ways)


def _name(ways: Ways) -> Finding:
    try:
        found = socket.getaddrinfo(ways.host, ways.port, type=socket.SOCK_STREAM)
    except OSError as error:
        return failed(
            "name",
            f"{ways.host}: nobody knows this name here ({error.strerror or error})",
            "give the server's address, or add its name to /etc/hosts or your router",
        )
    return Finding(name="name", said=f"{ways.host} is {found[0][4][0]}")


def _port(ways: Ways) -> Finding:
    where = f"{ways.host}:{ways.port}"
    try:
        socket.create_connection((ways.host, ways.port), timeout=PATIENCE_S).close()
    except ConnectionRefusedError:
        return failed("port", f"{where}: nobody listens", "start the server (cosp server start), look at its --port")
    except OSError as error:
        said = f"{where}: no answer ({error.strerror or error})"
        mend = f"open port {ways.port} to the boards in the server's firewall; are both on this network?"
        return failed("port", said, mend)
    return Finding(name="port", said=f"{where} answers")


def _context(ca: Path) -> tuple[ssl.SSLContext | None, Exception | None]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(ca)
    except (OSError, ssl.SSLError) as error:
        return None, error
    return context, None


def _handshake(ways: Ways, context: ssl.SSLContext) -> tuple[ssl.SSLError | None, Certificate | None]:
    """Return what TLS says against the server, and its certificate if it can be had."""
    try:
        return None, _shown(ways, context)
    except ssl.SSLError as refused:
        try:
            return refused, _shown(ways, ssl._create_unverified_context())
        except (OSError, ValueError):
            return refused, None


def _shown(ways: Ways, context: ssl.SSLContext) -> Certificate:
    with (
        socket.create_connection((ways.host, ways.port), timeout=PATIENCE_S) as plain,
        context.wrap_socket(plain, server_hostname=ways.host) as safe,
    ):
        return read_certificate(safe.getpeercert(binary_form=True) or b"")


def _speaks_no_tls(error: ssl.SSLError) -> bool:
    return getattr(error, "verify_code", None) is None


def _certificate(shown: Certificate) -> Finding:
    days = shown.left(now_utc()).days
    said = f"the server's, for {', '.join(shown.names)}, {days} days left"
    if days < SOON_DAYS:
        return warning("certificate", said, "have it renewed on the server: cosp keys server")
    return Finding(name="certificate", said=said)


def _ahead_s(ways: Ways, context: ssl.SSLContext | None) -> float | None:
    """Return by how much this machine's clock is ahead of the server's; None if the server does not say."""
    connection = (
        http.client.HTTPConnection(ways.host, ways.port, timeout=PATIENCE_S)
        if context is None
        else http.client.HTTPSConnection(ways.host, ways.port, timeout=PATIENCE_S, context=context)
    )
    try:
        connection.request("GET", "/")
        date = connection.getresponse().getheader("Date")
        own_s = time.time()
        return None if date is None else own_s - email.utils.parsedate_to_datetime(date).timestamp() - 0.5
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()


def _off(ahead_s: float) -> bool:
    return not -MOST_BEHIND_S < ahead_s < MOST_AHEAD_S


def _clock(ahead_s: float | None) -> Finding:
    if ahead_s is None:
        return warning("clock", "the server does not say what time it is", "")
    side = "ahead of" if ahead_s > 0 else "behind"
    said = f"{_span(abs(ahead_s))} {side} the server's"
    if _off(ahead_s):
        mend = "set it (timedatectl set-ntp true, or sudo date -s); Flower takes no request from another time"
        return failed("clock", f"this board's is {said}", mend)
    return Finding(name="clock", said=said)


def _span(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def _key(ways: Ways) -> Finding:
    """Ask the server for what it grants to no admitted key, so that nothing changes there."""
    from flwr.proto.fleet_pb2 import ActivateNodeRequest
    from flwr.supercore.error import ApiErrorCode, FlowerError
    from flwr.supercore.primitives.asymmetric import public_key_to_bytes
    from flwr.supernode.fleet_http_client import FleetHttpClient
    from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

    assert ways.key is not None
    assert ways.ca is not None
    try:
        key = load_ssh_private_key(ways.key.read_bytes(), password=None)
    except (OSError, ValueError) as error:
        return failed("key", f"{ways.key}: cannot be read ({error})", "make one: cosp keys node NAME")
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        return failed("key", f"{ways.key}: is no key of an elliptic curve", "make one: cosp keys node NAME")
    signing = NodeAuthHttpInterceptor(key, key.public_key())
    address = f"[{ways.host}]:{ways.port}" if ":" in ways.host else f"{ways.host}:{ways.port}"
    asking = ActivateNodeRequest(public_key=public_key_to_bytes(key.public_key()), heartbeat_interval=-1.0)
    try:
        authority = ways.ca.read_bytes()
        with FleetHttpClient.from_server_address(address, False, authority, interceptors=[signing]) as client:
            client.ActivateNode(asking)
    except httpx.HTTPStatusError as error:
        said = FlowerError.from_json(error.response.text)
        if said is not None and said.code == ApiErrorCode.FLEET_INVALID_HEARTBEAT_INTERVAL:
            return Finding(name="key", said=f"{ways.key} is admitted")
        if said is not None and said.code == ApiErrorCode.FLEET_NODE_ACTIVATION_FAILED:
            return failed("key", f"{ways.key}: the server has not admitted it", ADMIT)
        why = "its signature or its time is not accepted" if error.response.status_code == REFUSED else said or error
        return failed("key", f"{ways.key}: {why}", ADMIT)
    except httpx.HTTPError as error:
        return failed("key", f"{ways.key}: the server did not answer ({error})", "see the server's log")
    return failed("key", f"{ways.key}: the server accepts what it should not", "install the same flwr on both sides")


def _trainer(path: Path) -> Iterator[Finding]:
    start = f"start it: cosp trainer --data STORE --socket {path}"
    try:
        found = describe(path, wait_s=0.0)
    except (CospError, OSError) as error:
        yield failed("trainer", str(error), start if "start one" not in str(error) else "see its log")
        yield warning("store", "not looked at: trainer failed", "")
        return
    yield Finding(
        name="trainer",
        said=f"{found['device']}, torch {found['torch']}, Python {found['python']}, {found['finished']} tasks done",
    )
    recipe = found.get("recipe")
    if recipe is None:
        yield failed("store", "the trainer is of an older cosp", "install the same cosp for trainer and client")
        return
    said = f"{found['samples']} samples of {len(recipe['classes'])} classes, {recipe['sample_shape']}" + (
        f", for {recipe['data']}" if recipe.get("data") else ""
    )
    if recipe.get("mean") is None and len(recipe["sample_shape"]) > 1:
        yield warning("store", f"{said}: how it was normalised is not known", "make it anew by the server's recipe")
    else:
        yield Finding(name="store", said=said)
