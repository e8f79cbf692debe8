"""A SuperNode that gives a ClientApp time to start, says when it does not, and does not begin a task for ever."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from flwr.app import Message, RecordDict
from flwr.common.constant import ErrorCode
from flwr.supercore.constant import TaskType
from flwr.supercore.date import now
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.superexec.executor import ExecutionSpec, subprocess_executor
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode.nodestate import NodeStateFactory, nodestate_factory
from flwr.supernode.nodestate.in_memory_nodestate import InMemoryNodeState
from waiting import PATIENCE_S

from cosp.flower import patient_supernode, warm_superexec
from cosp.flower.patient_supernode import START_S, STARTS, PatientNodeState

RUN = 7


@pytest.fixture
def state() -> PatientNodeState:
    """A node that has one message, and a task for it."""
    found = PatientNodeState(ObjectStoreFactory().store())
    found.set_node_id(3)
    return found


@pytest.fixture
def asked(state: PatientNodeState, monkeypatch: pytest.MonkeyPatch) -> Callable[[], tuple[int, Message]]:
    def ask() -> tuple[int, Message]:
        for name, value in (("_run_id", RUN), ("_node_id", 1), ("_task_id", 1)):
            monkeypatch.setattr(TaskIdentity, name, value)
        message = Message(RecordDict(), dst_node_id=3, message_type="train")
        message.metadata.__dict__["_message_id"] = message.object_id
        state.store_message(message)
        task = state.create_task(task_type=TaskType.CLIENT_APP, run_id=RUN, fab_hash="f")
        assert task is not None
        return task, message

    return ask


def test_a_client_app_has_longer_to_start_than_flower_gives(state: PatientNodeState, asked: Any) -> None:
    task, _ = asked()
    token = state.claim_task(task)
    assert token is not None
    left_s = (state.task_token_store[task].active_until - now()).total_seconds()
    assert left_s == pytest.approx(START_S, abs=5.0)
    assert START_S > 60.0
    assert state.claim_task(task) is None  # one has it


def test_a_task_that_starts_is_none_of_ours(state: PatientNodeState, asked: Any, capfd: Any) -> None:
    task, _ = asked()
    state.claim_task(task)
    assert state.activate_task(task)
    assert state.acknowledge_task_heartbeat(task)
    assert capfd.readouterr().err == ""


def test_one_that_never_starts_is_said_and_then_answered(
    state: PatientNodeState, asked: Any, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    task, message = asked()
    monkeypatch.setattr(patient_supernode, "START_S", -1.0)  # it is late at once
    for _ in range(STARTS):
        assert state.get_messages_legacy(is_reply=True) == []
        assert state.claim_task(task) is not None
    (reply,) = state.get_messages_legacy(is_reply=True)
    said = capfd.readouterr().err.splitlines()
    assert [line.startswith("cosp: Flower's ClientApp did not start within") for line in said] == [True] * STARTS
    assert said[-1].endswith("its task is given up")
    assert reply.metadata.reply_to_message_id == message.metadata.message_id
    assert reply.error.code == ErrorCode.CLIENT_APP_CRASHED
    assert "too little free CPU" in reply.error.reason
    assert state.claim_task(task) is None  # nobody begins it again


def test_the_names_of_flower_s_that_are_replaced_are_those_that_it_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodestate_factory, "InMemoryNodeState", PatientNodeState)
    assert isinstance(NodeStateFactory(ObjectStoreFactory()).state(), PatientNodeState)
    assert {"claim_task", "_store_error_replies"} <= set(dir(InMemoryNodeState))
    made = []
    monkeypatch.setattr(warm_superexec.factory, "SubprocessExecutor", lambda: made.append(1))
    warm_superexec.factory.get_executor("subprocess")
    assert made == [1]
    import flwr.supernode.cli.flower_supernode  # noqa: F401  # as main does, which finds the loop's module so

    assert sys.modules["flwr.supernode.start_client_internal"].subprocess is subprocess


def test_superexec_is_started_as_ours_and_else_what_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(patient_supernode.subprocess, "Popen", started.append)
    patient_supernode.start(["flower-superexec", "--insecure"])
    patient_supernode.start(["other"])
    assert started == [[sys.executable, "-m", "cosp.flower.warm_superexec", "--insecure"], ["other"]]


def spec() -> ExecutionSpec:
    return ExecutionSpec(
        task_type=TaskType.CLIENT_APP, runtime_api_address="127.0.0.1:1", token="t", insecure=True,
        root_certificates_path=None, runtime_dependency_install=False, parent_pid=None, suppress_output=False,
        task_id=1,
    )  # fmt: skip


def test_a_client_app_is_asked_for_in_a_line() -> None:
    ours, theirs = socket.socketpair()
    warm_superexec.WarmExecutor(ours).launch(spec())
    line = theirs.recv(4096)
    assert line.endswith(b"\n")
    assert b'"token": "t"' in line
    ours.close(), theirs.close()


def test_without_the_process_that_forks_flower_s_own_way_is_taken_and_said(
    monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(subprocess_executor.subprocess, "Popen", started.append)
    ours, theirs = socket.socketpair()
    theirs.close()
    warm_superexec.WarmExecutor(ours).launch(spec())
    assert started[0][0] == "flwr-clientapp"
    assert "start cold from now on" in capfd.readouterr().err
    ours.close()


def test_the_process_that_forks_ends_with_who_asks() -> None:
    code = "import cosp.flower.warm_superexec as w, socket, sys; w.serve(socket.socket(fileno=int(sys.argv[1])))"
    ours, theirs = socket.socketpair()
    forks = subprocess.Popen([sys.executable, "-c", code, str(theirs.fileno())], pass_fds=[theirs.fileno()])
    theirs.close(), ours.close()
    assert forks.wait(PATIENCE_S) == 0
