"""What the commands for real boards refuse before they start anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from cosp.cli import main as cli
from cosp.errors import UserError
from cosp.recipe import Recipe
from cosp.trainer.samples import ClientSamples, Samples
from cosp.trainer.store import BoardStore, write_board_store


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


def said(*words: str) -> str:
    """Return the one line by which a command is refused."""
    error = CliRunner().invoke(cli.app, list(words)).exception
    assert isinstance(error, UserError), error
    assert "\n" not in str(error)
    return str(error)


@pytest.mark.parametrize(
    ("stream", "line"),
    [
        (None, "--stream {}: there is nothing; give a folder of images, or an .npz with x"),
        (np.zeros((3, 5, 5)), "--stream {}: samples are (5, 5), the model reads images of (4, 4, 1)"),
    ],
)
def test_a_trainer_does_not_start_with_a_stream_that_it_cannot_serve(tmp_path: Path, stream: Any, line: str) -> None:
    own = Samples(np.zeros((2, 1, 4, 4), np.float32), np.array([0, 1]))
    recipe = Recipe(("a", "b"), (1, 4, 4), mean=(0.0,), std=(1.0,))
    write_board_store(tmp_path / "store", BoardStore(ClientSamples(own, own), recipe))
    path = tmp_path / "stream.npz"
    if stream is not None:
        np.savez(path, x=stream)
    found = said("trainer", "--data", str(tmp_path / "store"), "--socket", str(tmp_path / "s"), "--stream", str(path))
    assert found == line.format(path)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"stream": None}, "stream: is missing: what comes to the boards; a run that trains is for cosp run"),
        ({"model": None}, "stream needs a model that serves it: give model: {pretrained: RUN}"),
        ({"adapt": {"rule": "labels"}}, "adapt.rule: labels: an oracle's, of simulated boards"),
        ({}, "cosp-state: no server's state; start one: cosp server start"),
    ],
)
def test_a_server_that_cannot_adapt_says_so_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    config = {"name": "s", "model": {"pretrained": "run"}, "stream": {"until_s": 60}, **changes}
    Path("s.yaml").write_text(yaml.safe_dump({key: value for key, value in config.items() if value is not None}))
    assert line in said("server", "adapt", "s.yaml")


def test_a_stream_is_for_server_adapt_not_for_server_run(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("name: s\nmodel: {pretrained: run}\nstream: {until_s: 60}\n")
    assert "give it to cosp adapt, or to cosp server adapt for real ones" in said("server", "run", str(path))
