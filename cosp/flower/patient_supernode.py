"""Flower's SuperNode on a weak board: a ClientApp has longer to start, and one that cannot start is said and answered.

Flower 1.41 gives a task back whose ClientApp has not called within 30 s, begins it anew, and again, for ever and
without a word. Here it has ``START_S``; each start that fails is a line in the board's log, and after ``STARTS`` of
them the server gets an error that says so. What the SuperNode starts its ClientApps with is ``warm_superexec``.

Private Flower names are used in this file, and a test holds them to what Flower does.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

from flwr.app import Error
from flwr.common.constant import ErrorCode, Status, SubStatus
from flwr.proto.task_pb2 import TaskStatus
from flwr.supercore.date import now
from flwr.supercore.object_store import ObjectStore
from flwr.supernode.nodestate.in_memory_nodestate import InMemoryNodeState

START_S = 120.0
"""For how long a ClientApp may start; by then a core of which a hundredth is free has worked for a second."""
STARTS = 3
"""How often it may fail to, before the task is given up."""


class PatientNodeState(InMemoryNodeState):
    """What a SuperNode keeps of its tasks, which are not begun for ever."""

    def __init__(self, object_store: ObjectStore) -> None:
        super().__init__(object_store)
        self._failed = Counter[int]()
        """By task, starts that nobody heard of."""

    def claim_task(self, task_id: int) -> str | None:
        token: str | None = super().claim_task(task_id)
        if token is not None:
            with self.lock_task_store:
                if record := self.task_token_store.get(task_id):
                    record.active_until = now() + timedelta(seconds=START_S)
        return token

    def _cleanup_expired_task_tokens_locked(self) -> None:
        starting = [task for task in self.task_token_store if self.task_store[task].status.status == Status.STARTING]
        super()._cleanup_expired_task_tokens_locked()
        for task in starting:
            if task not in self.task_token_store:
                self._note_failed_start(task)

    def _note_failed_start(self, task_id: int) -> None:
        self._failed[task_id] += 1
        times = self._failed[task_id]
        what = f"Flower's ClientApp did not start within {START_S:.0f} s"
        if times < STARTS:
            say(f"{what} ({times} of {STARTS}): this board has too little free CPU or memory; beginning anew")
            return
        why = f"{what}, {STARTS} times in a row: the board has too little free CPU or memory"
        say(f"{why}; its task is given up")
        task = self.task_store[task_id]
        task.finished_at = now().isoformat()
        task.status.CopyFrom(TaskStatus(status=Status.FINISHED, sub_status=SubStatus.FAILED, details=why))
        self._give_up(task.run_id, why)

    def _give_up(self, run: int, why: str) -> None:
        """Answer what was asked in ``run`` with an error; a SuperNode has one message at a time."""
        with self.lock_msg_store:
            for entry in self.msg_store.values():
                told = entry.message.metadata
                if told.run_id == run and not told.reply_to_message_id:
                    entry.is_retrieved = True
                    self.record_message_processing_start(told.message_id)
        self._store_error_replies({run}, Error(ErrorCode.CLIENT_APP_CRASHED, why))


def say(text: str) -> None:
    print(f"cosp: {text}", file=sys.stderr, flush=True)


def start(command: list[str]) -> subprocess.Popen[bytes]:
    """Start what the SuperNode starts: SuperExec, as cosp has it."""
    if command[0] == "flower-superexec":
        command = [sys.executable, "-m", "cosp.flower.warm_superexec", *command[1:]]
    return subprocess.Popen(command)


def main() -> None:
    """Run ``flower-supernode`` with its own arguments."""
    from flwr.supernode.cli.flower_supernode import flower_supernode
    from flwr.supernode.nodestate import nodestate_factory

    factory: Any = nodestate_factory
    factory.InMemoryNodeState = PatientNodeState
    loop: Any = sys.modules["flwr.supernode.start_client_internal"]
    loop.subprocess = SimpleNamespace(Popen=start)
    flower_supernode()


if __name__ == "__main__":
    main()
