"""What every Flower Grid in this process has: a run, numbered messages, no server to ask for either.

Private Flower names are used here and in ``cosp.flower.guarded_grid`` alone: ``TaskIdentity`` (a Message reads it),
``Run``, and the message id, which has no public setter (Flower's own grids set it the same way).
"""

from __future__ import annotations

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

RUN_ID = 1
SERVER_NODE = 1


class LocalGrid(Grid):
    """How messages travel, and to whom, a subclass says."""

    def __init__(self) -> None:
        self._sent = 0
        self._run = Run.create_empty(RUN_ID)
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = RUN_ID, SERVER_NODE, 1

    def set_run(self, run: Run) -> None:
        self._run = run

    @property
    def run(self) -> Run:
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def number(self, message: Message) -> str:
        """Give ``message`` an id of its own, and return it."""
        self._sent += 1
        message_id = f"message-{self._sent}"
        message.metadata.__dict__["_message_id"] = message_id
        return message_id
