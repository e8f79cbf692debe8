"""A task that a SuperNode has is done by a copy of SuperExec's warm process: Flower's own parts, but for SuperLink."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from flwr.app import Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.cli.build import build_fab_from_disk
from flwr.cli.config_utils import get_fab_metadata
from flwr.common.constant import ErrorCode
from flwr.supercore.fab import Fab
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode.cli import flower_supernode as cli
from flwr.supernode.nodestate import NodeStateFactory, nodestate_factory
from waiting import until

from cosp.flower.patient_supernode import PatientNodeState

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # uvicorn's, of websockets
ROOT = Path(__file__).resolve().parents[2]
NODE = 3
Node = tuple[PatientNodeState, ObjectStoreFactory, int]


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    """A SuperNode's state behind its HTTP API, as ``flower-supernode`` starts it; no SuperLink."""
    monkeypatch.setattr(nodestate_factory, "InMemoryNodeState", PatientNodeState)
    objects = ObjectStoreFactory()
    factory = NodeStateFactory(objects)
    state = factory.state()
    assert isinstance(state, PatientNodeState)
    state.set_node_id(NODE)
    settings = SimpleNamespace(
        host="127.0.0.1", port=0, superexec_auth_secret=None, runtime_ssl_certfile=None, runtime_ssl_keyfile=None
    )
    start = sys.modules["flwr.supernode.cli.flower_supernode"]._start_supernode_http_api
    server, thread = start(settings, factory)
    yield state, objects, server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join()


def give_task(node: Node, monkeypatch: pytest.MonkeyPatch) -> Message:
    """Have the SuperNode take in a message as it takes in SuperLink's: one that asks for no task that could be read."""
    for name, value in (("_run_id", 7), ("_node_id", 1), ("_task_id", 1)):
        monkeypatch.setattr(TaskIdentity, name, value)
    content = build_fab_from_disk(ROOT / "flower")
    fab_id, version = get_fab_metadata(content)
    fab = Fab(hashlib.sha256(content).hexdigest(), content, {})
    run = replace(
        Run.create_empty(7), fab_id=fab_id, fab_version=version, fab_hash=fab.hash_str, series_id=1,
        primary_task_type="flwr-serverapp",
    )  # fmt: skip
    message = Message(RecordDict(), dst_node_id=NODE, message_type="train")
    message.metadata.__dict__["_message_id"] = message.object_id
    parts = {name: part.deflate() for name, part in get_all_nested_objects(message).items()}
    state, objects, _ = node
    taken = sys.modules["flwr.supernode.start_client_internal"]._pull_and_store_message(
        state=state,
        object_store=objects.store(),
        node_config={"partition-id": 0, "trainer-socket": "/nowhere.sock"},
        receive=lambda: (remove_content_from_message(message), get_object_tree(message)),
        get_run=lambda number: run,
        get_fab=lambda name, number: fab,
        pull_object=lambda number, name: parts[name],
        confirm_message_received=lambda number, name: None,
        trusted_entities=None,
    )
    assert taken == 7
    return message


def test_a_task_is_done_by_a_copy(node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No ``flwr-clientapp`` can be found, so that what answers was forked."""
    assert cli is not None
    message = give_task(node, monkeypatch)
    state, _, port = node
    words = ["--insecure", "--runtime-api-address", f"127.0.0.1:{port}", "--parent-pid", str(os.getpid())]
    environment = {
        **os.environ, "FLWR_HOME": str(tmp_path), "PATH": "/nowhere", "PYTHONPATH": str(ROOT),
        "FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1", "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.1",
    }  # fmt: skip
    executes = subprocess.Popen([sys.executable, "-m", "cosp.flower.warm_superexec", *words], env=environment)
    found: list[Message] = []
    try:
        until(lambda: found.extend(state.get_messages_legacy(is_reply=True)) or found, "the task is answered")
    finally:
        executes.terminate()
        executes.wait()
    (reply,) = found
    assert reply.metadata.reply_to_message_id == message.metadata.message_id
    assert reply.error.code == ErrorCode.CLIENT_APP_RAISED_EXCEPTION  # cosp was reached
    assert reply.error.reason
    print(reply.error.reason)
