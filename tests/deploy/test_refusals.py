"""Who has the wrong key, trusts the wrong authority or meets an expired certificate stays out, and its log says why."""

from __future__ import annotations

import datetime
import json
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from deployment import CONFIG, Deployment, until

from cosp.deployment.keys import make_server_keys

pytestmark = pytest.mark.deploy
JOINED = "SuperNode ID"
"""What a SuperNode logs once SuperLink has let it in."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A server that has admitted board 0 alone; no board is there."""
    with Deployment(tmp_path_factory.mktemp("server"), CONFIG) as deployment:
        deployment.make_keys(1)
        deployment.start_server()
        yield deployment


def online(server: Deployment) -> int:
    nodes = json.loads(server.cosp("server", "nodes", "--json").stdout)
    return sum(node["status"] == "online" for node in nodes)


def test_an_admitted_board_joins_and_admitting_it_again_changes_nothing(server):
    assert "board-0: was admitted already" in server.cosp("server", "admit", "keys/board-0.pub").stdout
    server.start_client(0)
    until(lambda: online(server) == 1, "board 0 is online")
    until(lambda: JOINED in server.log("client-0"), "board 0 says so")
    server.kill("client-0")


def test_an_unknown_key_is_refused(server):
    server.cosp("keys", "node", "stranger", "--out", "strangers")
    server.start_client(1, key="strangers/stranger.key")
    until(lambda: "SuperNode ended" in server.log("client-1"), "the stranger is turned away")
    until(lambda: "the server has not admitted it; on the server: cosp" in server.log("client-1"), "and told why")
    server.kill("client-1")
    assert "Failed to activate SuperNode" in server.log("client-1")
    assert "public key" in server.log("server").lower()


def test_a_server_of_another_authority_is_not_joined(server):
    server.cosp("keys", "server", "--host", "127.0.0.1", "--out", "others")
    server.start_client(2, key="keys/board-0.key", ca="others/ca.crt")
    until(lambda: "certificate verify failed" in server.log("client-2").lower(), "the board names the certificate")
    server.kill("client-2")
    assert JOINED not in server.log("client-2")


def test_a_server_whose_certificate_has_expired_does_not_start(server, tmp_path):
    expired = Path(shutil.copytree(server.folder / "keys", tmp_path / "expired"))
    make_server_keys(expired, ["127.0.0.1"], days=1, now=datetime.datetime.now(datetime.UTC) - datetime.timedelta(3))
    done = server.cosp("server", "start", "--keys", str(expired), "--state", "other", check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "server.crt: expired on" in done.stderr


def checked(server: Deployment, key: str) -> dict[str, str]:
    """Return the line of each finding of a board's check."""
    words = ["--server", f"127.0.0.1:{server.port}", "--number", "0", "--ca", "keys/ca.crt", "--key", key]
    done = server.cosp("client", "--check", *words, "--trainer", "none.sock", check=False)
    assert done.returncode == 1, done.stderr  # there is no trainer
    return {line.split()[0]: line for line in done.stdout.splitlines()}


def admitted(server: Deployment) -> list[str]:
    """Return who is admitted; when each came on is another matter, on a slow machine it may be only now."""
    return [node["node-id"] for node in json.loads(server.cosp("server", "nodes", "--json").stdout)]


def test_a_check_says_whether_the_server_has_admitted_the_key_and_changes_nothing(server):
    server.cosp("keys", "node", "guest", "--out", "guests")
    before = admitted(server)
    known, unknown = checked(server, "keys/board-0.key"), checked(server, "guests/guest.key")
    assert [known[name].split()[1] for name in ("name", "port", "certificate", "clock", "key")] == ["OK"] * 5
    assert unknown["key"].split()[1] == "failed"
    assert "the server has not admitted it; on the server: cosp server admit" in unknown["key"]
    assert admitted(server) == before


def test_the_server_s_doctor_finds_nothing(server):
    done = server.cosp("doctor")
    assert done.returncode == 0
    lines = {line.split()[0]: line.split()[1] for line in done.stdout.splitlines()}
    assert {name: lines[name] for name in ("state", "certificate", "port", "boards")} == dict.fromkeys(
        ("state", "certificate", "port", "boards"), "OK"
    )


def test_plain_text_is_not_answered(server):
    with pytest.raises((urllib.error.URLError, ConnectionError, ValueError)):
        urllib.request.urlopen(f"http://127.0.0.1:{server.port}/v1/control/list-nodes", timeout=10)


def test_a_public_key_that_is_none_is_named(server):
    done = server.cosp("server", "admit", "keys/nobody.pub", check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "keys/nobody.pub: is no file" in done.stderr
