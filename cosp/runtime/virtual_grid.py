"""A Flower Grid in process and in virtual time.

A message to a board takes what the cost model says: download, compute, upload. So the order of events is known before
anything is computed; training runs ahead in a worker pool and replies are delivered in virtual order.

Private Flower names are used here and nowhere else: ``TaskIdentity`` (a Message reads it), ``Run``, and the message
id, which has no public setter (Flower's own grids set it the same way).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from flwr.app import Error, Message, MessageType, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from cosp import wire
from cosp.errors import CospError
from cosp.fleet.fleet import Board
from cosp.fleet.timeline import Timeline
from cosp.runtime.pool import Pool, TaskFailed
from cosp.runtime.pricing import drops, price
from cosp.server.clients import Introduction

RUN_ID = 1
SERVER_NODE = 1
FIRST_NODE = 1000
CLIENT_RAISED = 2  # flwr.common.constant.ErrorCode.CLIENT_APP_RAISED_EXCEPTION
NODE_UNAVAILABLE = 5

Reply = Callable[[Message], Message]
"""Makes the reply to a request when it is due."""


class VirtualGrid(Grid):
    """Boards as Flower nodes. The server loop finds its virtual time, ``clock`` and ``idle``, with ``getattr``."""

    def __init__(
        self,
        boards: Sequence[Board],
        introductions: Sequence[Introduction],
        pool: Pool,
        *,
        sigma: float,
    ) -> None:
        self._boards = dict(zip(range(FIRST_NODE, FIRST_NODE + len(boards)), boards, strict=True))
        self._introductions = {FIRST_NODE + i: introduction for i, introduction in enumerate(introductions)}
        self._pool = pool
        self._sigma = sigma
        self._timeline = Timeline()
        self._ready: dict[str, Message] = {}
        self._sent = 0
        self._run = Run.create_empty(RUN_ID)
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = RUN_ID, SERVER_NODE, 1

    def clock(self) -> float:
        """Return virtual seconds since the run began."""
        return self._timeline.now_s

    def idle(self, at_most_s: float) -> None:
        """Go to the next event, or by ``at_most_s`` if that comes first; CospError if nothing will ever happen."""
        until_s = min(self._timeline.next_s, self.clock() + at_most_s)
        if until_s == float("inf"):
            raise CospError("nothing is under way and nothing is due: the fleet has stalled")
        self.jump_to(until_s)

    def jump_to(self, time_s: float) -> None:
        """Move the clock to ``time_s``, delivering what is due until then."""
        self._timeline.at(time_s, lambda: None)
        self._timeline.run(time_s)

    def get_node_ids(self) -> Iterable[int]:
        return list(self._boards)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        return [self.push_as_of(self.clock(), message) for message in messages]

    def push_as_of(self, sent_s: float, message: Message) -> str:
        """Send ``message`` as if at ``sent_s``, which may lie in the past of a resumed run; return its id."""
        self._sent += 1
        message_id = f"message-{self._sent}"
        message.metadata.__dict__["_message_id"] = message_id
        board = self._boards[message.metadata.dst_node_id]
        deliver: Reply = self._introduce
        if message.metadata.message_type == MessageType.QUERY:
            due_s = sent_s + 2 * board.link.latency_s
        else:
            due_s, deliver = self._start(message, board, sent_s)
        self._timeline.at(max(due_s, self.clock()), lambda: self._deliver(message, deliver))
        return message_id

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        wanted = set(message_ids)
        return [self._ready.pop(message_id) for message_id in list(self._ready) if message_id in wanted]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        waiting = set(self.push_messages(messages))
        until_s = float("inf") if timeout is None else self.clock() + timeout
        replies: list[Message] = []
        while waiting and self.clock() < until_s:
            self.idle(until_s - self.clock())
            replies += self.pull_messages(waiting)
            waiting -= {reply.metadata.reply_to_message_id for reply in replies}
        return replies

    def set_run(self, run: Run) -> None:
        self._run = run

    @property
    def run(self) -> Run:
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def _introduce(self, request: Message) -> Message:
        return wire.introduction_reply(request, self._introductions[request.metadata.dst_node_id])

    def _start(self, request: Message, board: Board, sent_s: float) -> tuple[float, Reply]:
        """Put the message's task into the pool; return when its reply is due and how to make it."""
        task = wire.read_task(request)
        introduction = self._introductions[request.metadata.dst_node_id]
        cost = price(
            task, board, samples=introduction.samples, test_samples=introduction.test_samples, sigma=self._sigma
        )
        lost = drops(task, board)
        if lost is not None:
            return sent_s + lost * cost.total_s, _lost
        due_s = sent_s + cost.total_s
        job = self._pool.submit(
            task, task.parameters, lambda vector: wire.weights_into(request, task, vector), priority=due_s
        )
        figures = {
            "download_s": cost.download_s, "compute_s": cost.compute_s, "upload_s": cost.upload_s,
            "energy_j": cost.energy_j,
        }  # fmt: skip

        def reply(message: Message) -> Message:
            facts, vector = self._pool.result(job)
            return wire.result_reply(message, task, {**facts, "cost": figures}, vector)

        return due_s, reply

    def _deliver(self, request: Message, make: Reply) -> None:
        try:
            reply = make(request)
        except TaskFailed as error:
            reply = Message(Error(code=CLIENT_RAISED, reason=str(error)), reply_to=request)
        self._ready[request.metadata.message_id] = reply


def _lost(request: Message) -> Message:
    return Message(Error(code=NODE_UNAVAILABLE, reason="the board dropped out"), reply_to=request)
