"""Each fault by itself, on real sockets with real certificates: one line says which it is and what to do."""

from __future__ import annotations

import datetime
import email.utils
import http.server
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from node import ROOT

from cosp.deployment import checks, doctor
from cosp.deployment.certificate import check_certificate, key_pair
from cosp.deployment.checks import Ways, client_findings, failures
from cosp.deployment.finding import Finding
from cosp.deployment.keys import make_node_keys, make_server_keys
from cosp.deployment.superlink import make_state
from cosp.errors import UserError

DAY_S = 86400.0
NOW = datetime.datetime.now(datetime.UTC)


class Answers(http.server.BaseHTTPRequestHandler):
    """Says what time it is, ``late_s`` late."""

    late_s = 0.0

    def do_GET(self) -> None:
        self.send_response_only(404)
        self.send_header("Date", email.utils.formatdate(time.time() - self.late_s, usegmt=True))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def server(keys: Path | None, *, late_s: float = 0.0) -> Iterator[int]:
    """A server with the certificate in ``keys``, None: without TLS; yield its port."""
    listening = http.server.ThreadingHTTPServer(("0.0.0.0", 0), type("Late", (Answers,), {"late_s": late_s}))
    listening.handle_error = lambda *_: None  # type: ignore[method-assign]
    if keys is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(keys / "server.crt", keys / "server.key")
        listening.socket = context.wrap_socket(listening.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=listening.serve_forever, daemon=True)
    thread.start()
    try:
        yield listening.server_address[1]
    finally:
        listening.shutdown()
        listening.server_close()


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    make_server_keys(folder, ["server.lan"])
    make_node_keys(folder, ["board-0"])
    return folder


def ways(keys: Path, port: int, **changes: object) -> Ways:
    known = Ways(host="127.0.0.1", port=port, ca=keys / "ca.crt", key=keys / "board-0.key", trainer=keys / "no.sock")
    return replace(known, **changes)


def found(given: Ways) -> dict[str, Finding]:
    return {one.name: one for one in client_findings(given)}


def first_failure(given: Ways) -> str:
    return next(one.line() for one in client_findings(given) if one.level == "failed")


def renewed(keys: Path, folder: Path, *, begun: float, days: int) -> Path:
    """The same authority's certificate for the server, made ``begun`` days ago."""
    shutil.copytree(keys, folder)
    make_server_keys(folder, ["server.lan"], days=days, now=NOW - datetime.timedelta(days=begun))
    return folder


def test_an_unknown_name(keys: Path):
    said = first_failure(ways(keys, 8000, host="no-such-server.invalid"))
    assert said.startswith("name        failed   no-such-server.invalid: nobody knows this name here (")
    assert said.endswith("; give the server's address, or add its name to /etc/hosts or your router")


def test_a_closed_port(keys: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        port = taken.getsockname()[1]
        said = first_failure(ways(keys, port))
    why = f"127.0.0.1:{port}: nobody listens"
    assert said == f"port        failed   {why}; start the server (cosp server start), look at its --port"


def test_what_comes_after_a_failure_is_said_not_to_be_known(keys: Path):
    names = found(ways(keys, 8000, host="no-such-server.invalid"))
    assert list(names) == ["name", "port", "certificate", "clock", "key", "trainer", "store"]
    assert names["key"].said == "not looked at: name failed"
    assert names["trainer"].level == "failed"


def test_a_server_without_tls(keys: Path):
    with server(None) as port:
        said = first_failure(ways(keys, port))
    assert said.startswith("certificate failed   the server does not speak TLS (")
    assert said.endswith("start it with --keys, or, on a closed bench, the client with --insecure")


def test_another_authority_s_server(keys: Path, tmp_path: Path):
    make_server_keys(tmp_path, [])
    with server(tmp_path) as port:
        said = first_failure(ways(keys, port))
    assert "signed by another authority than --ca's" in said
    assert said.endswith("copy ca.crt from the server anew")


def test_a_name_that_the_certificate_has_not(keys: Path):
    with server(keys) as port:
        said = first_failure(ways(keys, port, host="127.0.0.2"))
    assert "the server's is for server.lan, localhost, 127.0.0.1, not for 127.0.0.2; give one of these" in said


def test_an_expired_certificate(keys: Path, tmp_path: Path):
    old = renewed(keys, tmp_path / "old", begun=3, days=1)
    with server(old) as port:
        said = first_failure(ways(keys, port))
    day = f"{NOW - datetime.timedelta(days=2):%Y-%m-%d}"
    assert said.startswith(f"certificate failed   the server's expired on {day}; renew it on the server")
    with pytest.raises(UserError, match=f"server.crt: expired on {day}; renew it"):
        check_certificate(old)


def test_a_certificate_that_ends_soon(keys: Path, tmp_path: Path):
    short = renewed(keys, tmp_path / "short", begun=0, days=20)
    assert "for server.lan, localhost, 127.0.0.1, 19 days left; renew it" in check_certificate(short)
    with server(short) as port:
        assert found(ways(keys, port))["certificate"].level == "warning"
    assert check_certificate(keys) == ""


def test_a_clock_a_day_ahead_is_the_cause_where_the_certificate_holds(keys: Path):
    with server(keys, late_s=1.2 * DAY_S) as port:
        said = first_failure(ways(keys, port))
        assert failures(ways(keys, port)) == [said]
    assert said.startswith("clock       failed   this board's is 1.2 days ahead of the server's; set it (timedatectl")


@pytest.mark.parametrize(("begun", "late_s", "side"), [(3.0, 2.5 * DAY_S, "ahead of"), (-2.0, -2.5 * DAY_S, "behind")])
def test_and_where_it_holds_by_the_server_s_clock_alone(
    keys: Path, tmp_path: Path, begun: float, late_s: float, side: str
):
    other = renewed(keys, tmp_path / "other", begun=begun, days=1)
    with server(other, late_s=late_s) as port:
        said = failures(ways(keys, port))
    assert said == [line for line in said if f"this board's is 2.5 days {side} the server's" in line]
    assert len(said) == 1


@pytest.mark.parametrize(("late_s", "fails"), [(3.0, False), (8.0, True), (-200.0, False), (-400.0, True)])
def test_clocks_may_differ_by_what_flower_takes(keys: Path, late_s: float, fails: bool):
    with server(keys, late_s=late_s) as port:
        assert (found(ways(keys, port))["clock"].level == "failed") == fails


def test_a_key_that_is_none(keys: Path, tmp_path: Path):
    (tmp_path / "bad.key").write_text("none")
    with server(keys) as port:
        for name, why in (("bad.key", "cannot be read"), ("missing.key", "cannot be read")):
            said = first_failure(ways(keys, port, key=tmp_path / name))
            assert said.startswith(f"key         failed   {tmp_path / name}: {why} (")


def test_a_trainer_that_is_not_there_and_a_file_that_is_no_socket(keys: Path, tmp_path: Path):
    (tmp_path / "file").touch()
    for path, why in (("no.sock", "no trainer listens at"), ("file", "no trainer listens at")):
        (finding, store) = list(checks._trainer(tmp_path / path))
        assert (finding.level, store.said) == ("failed", "not looked at: trainer failed")
        assert why in finding.said


def test_the_command_says_a_line_each_and_exits_with_1(keys: Path):
    with server(keys, late_s=DAY_S) as port:
        command = [sys.executable, "-m", "cosp.cli", "client", "--check", "--server", f"127.0.0.1:{port}"]
        command += ["--number", "0", "--ca", str(keys / "ca.crt"), "--key", str(keys / "board-0.key")]
        done = subprocess.run([*command, "--trainer", "no.sock"], cwd=ROOT, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert done.returncode == 1, done.stderr
    assert [line.split()[:2] for line in lines] == [
        ["name", "OK"], ["port", "OK"], ["certificate", "OK"], ["clock", "failed"], ["key", "warning"],
        ["trainer", "failed"], ["store", "warning"],
    ]  # fmt: skip


BREAK: dict[str, tuple[Callable[[Path], object], str]] = {
    "key of another": (lambda keys: make_server_keys(keys.parent / "b", []) and shutil.copy(
        keys.parent / "b/server.key", keys / "server.key"), "is not server.key's"),
    "authority of another": (lambda keys: make_server_keys(keys.parent / "b", []) and shutil.copy(
        keys.parent / "b/ca.crt", keys / "ca.crt"), "was not signed by the authority in ca.crt"),
    "damaged": (lambda keys: (keys / "server.crt").write_text("x"), "cannot be read"),
    "missing": (lambda keys: (keys / "server.key").unlink(), "cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("name", BREAK)
def test_keys_that_do_not_belong_together(keys: Path, tmp_path: Path, name: str):
    own = Path(shutil.copytree(keys, tmp_path / "own"))
    assert key_pair(own).level == "OK"
    change, why = BREAK[name]
    change(own)
    assert key_pair(own).level == "failed"
    assert why in key_pair(own).said


def test_the_doctor_of_a_server(keys: Path, tmp_path: Path):
    assert [one.name for one in doctor.server_findings(tmp_path / "none") if one.level == "failed"] == ["state"]
    with server(keys) as port:
        make_state(tmp_path / "state", port=port, keys=keys)
        one = {one.name: one for one in doctor._server(tmp_path / "state")}
        assert {name: one[name].level for name in ("state", "disk", "certificate", "port")} == dict.fromkeys(
            ("state", "disk", "certificate", "port"), "OK"
        )
        assert one["boards"].level == "failed"  # this server is no SuperLink
    left = {one.name: one for one in doctor.server_findings(tmp_path / "state")}
    assert left["port"].line().endswith("nobody answers (Connection refused); start the server: cosp server start")
    assert left["boards"].said == "not looked at: port failed"
