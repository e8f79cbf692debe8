"""Keys of a deployment: a certificate authority, the server's certificate, and a key pair for each board.

The authority signs the server's certificate only: a board trusts a server whose certificate it signed. A board is
known by its elliptic-curve key, whose public half the server admits. Private halves are written with mode 0600 and
never shown.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import re
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cosp.errors import UserError

CURVE = ec.SECP384R1()  # Flower takes the NIST curves
AUTHORITY_DAYS = 3650
SERVER_DAYS = 365
EARLIER = datetime.timedelta(hours=1)
"""Certificates are valid from this long ago on: clocks of boards lag."""
LOCAL = ("localhost", "127.0.0.1")
"""Names of the server for its own processes; every server certificate has them."""
_LABEL = "[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME = re.compile(rf"(?=.{{1,253}}\Z)(\*\.)?({_LABEL}\.)*(?![0-9]+\Z){_LABEL}")  # 1.2.3 would be an address


def make_server_keys(
    folder: Path, hosts: Sequence[str], *, days: int = SERVER_DAYS, now: datetime.datetime | None = None
) -> list[Path]:
    """Write ``server.key`` and ``server.crt`` for ``hosts``, names or addresses, and return the files written.

    ``ca.key`` and ``ca.crt`` are made if they are not there; with them a server's certificate is renewed without
    telling the boards. UserError if the folder cannot be written or holds half an authority.
    """
    now = now or datetime.datetime.now(datetime.UTC)
    if not 1 <= days <= AUTHORITY_DAYS:
        raise UserError(f"--days {days}: must lie in 1..{AUTHORITY_DAYS}; the authority holds no longer")
    names = [_general_name(host) for host in dict.fromkeys([*hosts, *LOCAL])]
    there = (folder / "ca.key").exists() or (folder / "ca.crt").exists()
    written = [] if there else _make_authority(folder, now)
    authority_key, authority_name = _read_authority(folder)
    key = ec.generate_private_key(CURVE)
    certificate = (
        _certificate("cosp server", authority_name, key.public_key(), now, days)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    _write(folder / "server.key", _pem(key), private=True, replace=True)
    _write(folder / "server.crt", certificate.public_bytes(Encoding.PEM), replace=True)
    return [*written, folder / "server.key", folder / "server.crt"]


def make_node_keys(folder: Path, names: Sequence[str]) -> list[Path]:
    """Write ``NAME.key`` and ``NAME.pub`` for each board and return the files; UserError if a key is there already."""
    written = []
    for name in names:
        if not name or Path(name).name != name or name.startswith("."):
            raise UserError(f"keys: a board's name becomes a file's, got {name!r}; use letters, digits and dashes")
        key = ec.generate_private_key(CURVE)
        private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        _write(folder / f"{name}.key", private, private=True)
        _write(folder / f"{name}.pub", public + f" {name}\n".encode(), replace=True)
        written += [folder / f"{name}.key", folder / f"{name}.pub"]
    return written


def _make_authority(folder: Path, now: datetime.datetime) -> list[Path]:
    key = ec.generate_private_key(CURVE)
    name = _name("cosp authority")
    usage = dict.fromkeys(
        ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
         "encipher_only", "decipher_only"),
        False,
    )  # fmt: skip
    certificate = (
        _certificate("cosp authority", name, key.public_key(), now, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.KeyUsage(key_cert_sign=True, crl_sign=True, **usage), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write(folder / "ca.key", _pem(key), private=True)
    _write(folder / "ca.crt", certificate.public_bytes(Encoding.PEM), replace=True)
    return [folder / "ca.key", folder / "ca.crt"]


def _read_authority(folder: Path) -> tuple[ec.EllipticCurvePrivateKey, x509.Name]:
    try:
        key = load_pem_private_key((folder / "ca.key").read_bytes(), password=None)
        certificate = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
        name, belongs = certificate.subject, certificate.public_key() == key.public_key()
    except Exception as error:  # damaged files surface as nearly anything
        raise UserError(
            f"{folder}: ca.key and ca.crt cannot be read ({error}); put both back, or give another --out, whose ca.crt "
            "every board then needs"
        ) from None
    if not (isinstance(key, ec.EllipticCurvePrivateKey) and belongs):
        raise UserError(f"{folder}: ca.key and ca.crt do not belong together; give another --out")
    return key, name


def _certificate(
    subject: str, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime.datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - EARLIER)
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        if not _NAME.fullmatch(host):
            raise UserError(
                f"--host {host!r:.80}: must be a name, of at most 253 characters and 63 between dots, or an address, "
                "without a port"
            ) from None
        return x509.DNSName(host)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write(path: Path, data: bytes, *, private: bool = False, replace: bool = False) -> None:
    """Write a file whole, never readable by others if ``private``; UserError if it exists and is not to be replaced."""
    if path.exists() and not replace:
        raise UserError(f"{path}: is there already and a private key is never overwritten; remove it or choose another")
    fresh = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o644)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        fresh.replace(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from None
