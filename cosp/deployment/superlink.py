"""Flower's processes as cosp starts them: SuperLink and SuperExec on the server, a SuperNode on a board.

The server's state folder holds all that must outlive a restart: Flower's database, the secret that SuperExec shows to
SuperLink, and how the ``flwr`` command reaches SuperLink. Keep it private.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path

from cosp.deployment.supervise import Service
from cosp.errors import UserError

CONNECTION = "cosp"
"""The name of our SuperLink in Flower's own configuration."""
THIS_MACHINE = ("127.0.0.1", "localhost", "::1")
POLL_S = "0.1"
"""How often SuperExec looks for work; Flower's default of a second would be added to every task."""


def flower_environment(home: Path, *hosts: str) -> dict[str, str]:
    """Return the environment for Flower's processes: their files under ``home``, no telemetry, our binaries.

    This machine and ``hosts`` are asked without the proxies that the environment may name.
    """
    return {
        **os.environ,
        **dict.fromkeys(("no_proxy", "NO_PROXY"), _without_proxy(*THIS_MACHINE, *hosts)),
        "FLWR_HOME": str(home.absolute()),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": POLL_S,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONUNBUFFERED": "1",
    }


def _without_proxy(*hosts: str) -> str:
    """Return ``hosts`` behind those that the environment has asked without a proxy already."""
    known = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    return ",".join(dict.fromkeys(filter(None, (*map(str.strip, known.split(",")), *hosts))))


def home_of(state: Path) -> Path:
    return state / "flwr"


def make_state(state: Path, *, port: int, keys: Path | None) -> None:
    """Make the server's state folder; ``keys`` None is a server without TLS. UserError if it cannot be written."""
    address = f'address = "127.0.0.1:{port}"'
    how = "insecure = true" if keys is None else f'root-certificates = "{(keys / "ca.crt").absolute()}"'
    text = f'[superlink]\ndefault = "{CONNECTION}"\n\n[superlink.{CONNECTION}]\n{address}\n{how}\n'
    try:
        state.mkdir(parents=True, exist_ok=True)
        state.chmod(0o700)
        home_of(state).mkdir(exist_ok=True)
        (home_of(state) / "config.toml").write_text(text, encoding="utf-8")
        secret = _secret(state)
        if not secret.exists():
            descriptor = os.open(secret, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_bytes(32))
    except OSError as error:
        raise UserError(f"{state}: cannot be written ({error.strerror}); give another --state") from None


def server_services(state: Path, *, host: str, port: int, keys: Path | None) -> list[Service]:
    """Return SuperLink and SuperExec. SuperExec and the ServerApp below it live on when SuperLink restarts."""
    secret = ("--superexec-auth-secret-file", str(_secret(state)))
    link = ["--host", host, "--port", str(port), "--database", str(state / "state.db"), "--isolation", "process"]
    link += ["--disable-runtime-dependency-installation", *secret, *_server_tls(keys)]
    execute = ["--runtime-api-address", f"127.0.0.1:{port}", *secret]
    execute += ["--insecure"] if keys is None else ["--root-certificates", str(_there(keys, "ca.crt"))]
    return [
        Service(name="SuperLink", command=(sys.executable, "-m", "cosp.deployment.guarded_superlink", *link)),
        Service(name="SuperExec", command=(binary("flower-superexec"), *execute), with_children=False),
    ]


def client_service(
    server: str, *, authority: Path | None, key: Path | None, port: int, config: Mapping[str, str | int | float]
) -> Service:
    """Return a board's SuperNode; without ``authority`` and ``key`` it talks in plain text to whoever answers."""
    command = [sys.executable, "-m", "cosp.flower.patient_supernode", "--superlink", server, "--port", str(port)]
    if authority is None or key is None:
        command += ["--insecure"]
    else:
        command += ["--root-certificates", str(authority), "--auth-supernode-private-key", str(key)]
    pairs = [f'{name}="{value}"' if isinstance(value, str) else f"{name}={value}" for name, value in config.items()]
    return Service(name="SuperNode", command=(*command, "--node-config", " ".join(pairs)))


def _server_tls(keys: Path | None) -> list[str]:
    if keys is None:
        return ["--insecure"]
    flags = {"--ssl-ca-certfile": "ca.crt", "--ssl-certfile": "server.crt", "--ssl-keyfile": "server.key"}
    found = [word for flag, name in flags.items() for word in (flag, str(_there(keys, name)))]
    return [*found, "--enable-supernode-auth"]


def _there(keys: Path, name: str) -> Path:
    if not (keys / name).is_file():
        raise UserError(f"{keys / name}: is missing; make it: cosp keys server --host HOST --out {keys}")
    return keys / name


def _secret(state: Path) -> Path:
    return state / "superexec.secret"


def binary(name: str) -> str:
    """Return the path of one of Flower's commands in this environment."""
    path = Path(sys.executable).parent / name
    if not path.is_file():
        raise UserError(f"{name}: not in {path.parent}; install flwr into this environment")
    return str(path)
