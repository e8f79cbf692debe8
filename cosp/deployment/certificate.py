"""For how long a certificate holds, which names it has, and what a refused one is refused for."""

from __future__ import annotations

import datetime
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from cosp.deployment.finding import Finding, failed, warning
from cosp.errors import UserError

SOON_DAYS = 30
RENEW = "renew it on the server (cosp keys server --host HOST --out KEYS, with the same ca.key) and start it again"
EXPIRED, NOT_YET, OTHER_NAME, OTHER_ADDRESS = 10, 9, 62, 64
"""OpenSSL's X509_V_ERR numbers."""


@dataclass(frozen=True)
class Certificate:
    """What a certificate says of itself."""

    begins: datetime.datetime
    ends: datetime.datetime
    names: tuple[str, ...]

    def left(self, now: datetime.datetime) -> datetime.timedelta:
        return self.ends - now


def read_certificate(data: bytes) -> Certificate:
    """Read PEM, or DER as a connection gives it; ValueError if it is neither."""
    found = x509.load_pem_x509_certificate(data) if b"BEGIN" in data else x509.load_der_x509_certificate(data)
    try:
        alternatives = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = tuple(str(name.value) for name in alternatives)
    except x509.ExtensionNotFound:
        names = ()
    return Certificate(found.not_valid_before_utc, found.not_valid_after_utc, names)


def now_utc() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def key_pair(keys: Path, *, now: datetime.datetime | None = None) -> Finding:
    """Return whether ``server.crt`` in ``keys`` holds, is ``server.key``'s and was signed by ``ca.crt``."""
    path = keys / "server.crt"
    try:
        known = x509.load_pem_x509_certificate(path.read_bytes())
        authority = x509.load_pem_x509_certificate((keys / "ca.crt").read_bytes())
        key = load_pem_private_key((keys / "server.key").read_bytes(), password=None)
        belongs = key.public_key() == known.public_key()
    except Exception as error:  # damaged files surface as nearly anything
        return failed("certificate", f"{keys}: cannot be read ({error})", "make them: cosp keys server --host HOST")
    if not belongs:
        return failed("certificate", f"{path}: is not server.key's", RENEW)
    try:
        known.verify_directly_issued_by(authority)
    except Exception:
        return failed("certificate", f"{path}: was not signed by the authority in ca.crt", RENEW)
    found = read_certificate(path.read_bytes())
    return _holding(str(path), found, now or now_utc())


def _holding(what: str, found: Certificate, now: datetime.datetime) -> Finding:
    if now > found.ends:
        return failed("certificate", f"{what}: expired on {found.ends:%Y-%m-%d}", RENEW)
    if now < found.begins:
        return failed(
            "certificate", f"{what}: holds from {found.begins:%Y-%m-%d %H:%M} UTC on", "set this machine's clock"
        )
    days = found.left(now).days
    said = f"{what}: for {', '.join(found.names)}, {days} days left"
    return warning("certificate", said, RENEW) if days < SOON_DAYS else Finding(name="certificate", said=said)


def check_certificate(keys: Path, *, now: datetime.datetime | None = None) -> str:
    """Return what a server should say of its certificate as it starts, mostly nothing; UserError if it is useless."""
    found = key_pair(keys, now=now)
    if found.level == "failed":
        raise UserError(f"{found.said}; {found.mend}")
    return f"{found.said}; {found.mend}" if found.level == "warning" else ""


def why_refused(error: ssl.SSLError, host: str, shown: Certificate | None, *, ahead_s: float | None) -> Finding:
    """Return why a server's certificate, as far as it was ``shown``, is not trusted on a board whose clock is so far
    ``ahead_s`` of the server's, if that is known.
    """
    code = getattr(error, "verify_code", None)
    if code in (EXPIRED, NOT_YET) and shown is not None:
        server_s = now_utc() - datetime.timedelta(seconds=ahead_s or 0.0)
        if ahead_s is not None and shown.begins <= server_s <= shown.ends:
            return failed("certificate", "holds by the server's clock, not by this board's", "see the clock")
        if code == EXPIRED:
            return failed("certificate", f"the server's expired on {shown.ends:%Y-%m-%d}", RENEW)
        return failed("certificate", f"the server's holds from {shown.begins:%Y-%m-%d %H:%M} UTC on", "set the clocks")
    if code in (OTHER_NAME, OTHER_ADDRESS):
        names = ", ".join(shown.names) if shown else "others"
        return failed(
            "certificate",
            f"the server's is for {names}, not for {host}",
            f"give one of these as --server, or add --host {host}: {RENEW}",
        )
    if code is not None:
        why = getattr(error, "verify_message", error)
        said = f"the server's was signed by another authority than --ca's ({why})"
        return failed("certificate", said, "copy ca.crt from the server anew")
    return failed(
        "certificate",
        f"the server does not speak TLS ({error.reason or error})",
        "start it with --keys, or, on a closed bench, the client with --insecure",
    )
