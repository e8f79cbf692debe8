"""What the commands for real boards refuse before they start anything."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from cosp.cli import main as cli
from cosp.errors import UserError


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The commands of the services that would have been kept running."""
    commands: list[tuple[str, ...]] = []
    monkeypatch.setattr(
        "cosp.deployment.supervise.supervise",
        lambda services, *_, **__: commands.extend(one.command for one in services),
    )
    return commands


def client(address: str) -> BaseException | None:
    return CliRunner().invoke(cli.app, ["client", "--server", address, "--number", "0", "--insecure"]).exception


@pytest.mark.parametrize(
    "address",
    ["foo", "foo:", "foo:x", "foo:0", "foo:70000", "foo:-1", "foo:+1", ":8000", "", "a b:1", "http://a:1", "::1:8000"],
)
def test_an_address_that_cannot_be_right_is_refused_at_once(address, started):
    error = client(address)
    assert isinstance(error, UserError)
    assert f"client: --server {address!r}: must be HOST:PORT" in str(error)
    assert started == []


@pytest.mark.parametrize("address", ["server.lan:8000", "127.0.0.1:1", "[::1]:65535", "no_such.host.invalid:8000"])
def test_a_server_that_may_come_yet_is_waited_for(address, started):
    assert client(address) is None
    assert address in started[0]
