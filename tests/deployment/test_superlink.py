"""What Flower's processes are started with, and what of SuperLink can be reached from elsewhere."""

from __future__ import annotations

import asyncio
import stat
import tomllib
import urllib.request

import pytest

from cosp.deployment.guarded_superlink import LocalUnlessForBoards
from cosp.deployment.keys import make_server_keys
from cosp.deployment.superlink import client_service, flower_environment, home_of, make_state, server_services
from cosp.errors import UserError


def test_a_server_has_tls_and_node_authentication(tmp_path):
    make_server_keys(tmp_path, ["server.lan"])
    link, execute = server_services(tmp_path / "state", host="0.0.0.0", port=8000, keys=tmp_path)
    assert "--enable-supernode-auth" in link.command
    assert str(tmp_path / "server.key") in link.command
    assert str(tmp_path / "ca.crt") in execute.command
    assert "--insecure" not in link.command + execute.command


def test_a_server_without_them_says_so_to_flower(tmp_path):
    for service in server_services(tmp_path, host="0.0.0.0", port=8000, keys=None):
        assert "--insecure" in service.command


def test_missing_keys_are_named(tmp_path):
    with pytest.raises(UserError, match=r"ca.crt: is missing; make it: cosp keys server"):
        server_services(tmp_path / "state", host="0.0.0.0", port=8000, keys=tmp_path)


def test_the_state_is_private_and_its_secret_stays(tmp_path):
    make_state(tmp_path / "state", port=8000, keys=tmp_path)
    secret = tmp_path / "state" / "superexec.secret"
    before = secret.read_bytes()
    make_state(tmp_path / "state", port=8001, keys=tmp_path)
    assert secret.read_bytes() == before
    assert len(before) == 32
    assert (stat.S_IMODE(secret.stat().st_mode), stat.S_IMODE((tmp_path / "state").stat().st_mode)) == (0o600, 0o700)
    connection = tomllib.loads((home_of(tmp_path / "state") / "config.toml").read_text())["superlink"]
    assert connection["cosp"] == {"address": "127.0.0.1:8001", "root-certificates": str(tmp_path / "ca.crt")}


def test_a_board_s_facts_go_to_its_supernode_as_flower_reads_them(tmp_path):
    from flwr.common.config import parse_config_args

    facts = {"partition-id": 3, "trainer-socket": "/run/cosp/trainer.sock", "board": "Jetson Orin Nano", "keep": 0.5}
    service = client_service("server:8000", authority=tmp_path, key=tmp_path, port=9094, config=facts)
    assert parse_config_args([service.command[-1]]) == facts
    assert "--insecure" not in service.command
    assert "--insecure" in client_service("s:1", authority=None, key=None, port=9094, config=facts).command


def test_flower_reports_nothing_home(tmp_path):
    assert flower_environment(tmp_path)["FLWR_TELEMETRY_ENABLED"] == "0"


@pytest.mark.parametrize(
    ("path", "caller", "status"),
    [
        ("/v1/fleet/pull-messages", "192.168.1.20", 200),
        ("/v1/control/start-run", "192.168.1.20", 403),
        ("/v1/control/register-node", "192.168.1.20", 403),
        ("/v1/runtime/pull-task-input", "192.168.1.20", 403),
        ("/v1/fleet/../control/start-run", "192.168.1.20", 403),
        ("/docs", "fe80::1", 403),
        ("/v1/control/start-run", "127.0.0.1", 200),
        ("/v1/runtime/pull-task-input", "::1", 200),
    ],
)
def test_from_elsewhere_only_boards_requests_are_heard(path, caller, status):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})

    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": path, "headers": [], "client": (caller, 5000)}
    asyncio.run(LocalUnlessForBoards(app)(scope, None, send))
    assert sent[0]["status"] == status


def test_this_machine_and_the_server_are_asked_without_a_proxy(tmp_path, monkeypatch):
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("NO_PROXY", "internal.lan, localhost")
    environment = flower_environment(tmp_path, "server.lan")
    assert environment["no_proxy"] == environment["NO_PROXY"] == "internal.lan,localhost,127.0.0.1,::1,server.lan"
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", environment["no_proxy"])
    assert all(urllib.request.proxy_bypass(host) for host in ("127.0.0.1", "localhost", "server.lan"))
    assert not urllib.request.proxy_bypass("elsewhere.lan")
