"""A Flower Grid in process and in virtual time.

A message to a board takes what the cost model and the state of the fleet say: download, compute, upload. None of it
depends on what training computes; so that runs ahead in a worker pool, and replies are delivered in virtual order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from flwr.app import Error, Message, MessageType

from cosp.errors import FleetStalled
from cosp.fleet.board import Board
from cosp.fleet.boards import one_of_each
from cosp.fleet.fleet import Fleet
from cosp.fleet.introduction import Budget, Introduction
from cosp.fleet.live import End, Errand, LiveFleet
from cosp.fleet.made import Made
from cosp.fleet.timeline import Timeline
from cosp.methods.clients import budget_of
from cosp.methods.pricing import drops, price
from cosp.run.pool import Pool, TaskFailed, TaskKilled
from cosp.server.nodes import Guests, Nodes, NodesOn
from cosp.simulation.attackers import Attackers, introduced
from cosp.simulation.local_grid import LocalGrid
from cosp.simulation.together import Together
from cosp.task.demand import download_bytes, peak_memory_bytes, upload_bytes
from cosp.task.task import Task
from cosp.wire import messages as wire
from cosp.wire import records

FIRST_NODE = 1000
LOSSES = {
    "dropout": "the board dropped out",
    "off": "the board went off",
    "battery": "the board has used up its energy",
    "memory": "the board's memory no longer holds the task",
}
KILLED = "worker-died"
"""Why a task is lost over which workers died, whose board plays no part in that."""
CLIENT_RAISED = 2  # flwr.common.constant.ErrorCode.CLIENT_APP_RAISED_EXCEPTION


class VirtualGrid(LocalGrid):
    """Boards as Flower nodes. The server loop finds its virtual time, ``clock`` and ``idle``, with ``getattr``.

    At most ``together`` clients are trained in one pass. ``begin`` False leaves the boards' lives to ``restore``; until
    then all are on.
    """

    def __init__(
        self,
        fleet: Fleet,
        introductions: Sequence[Introduction],
        pool: Pool,
        *,
        sigma: float,
        together: int = 1,
        begin: bool = True,
    ) -> None:
        super().__init__()
        self._boards, self._introductions = fleet.boards, introductions
        self._on = NodesOn(FIRST_NODE, len(fleet.boards))
        self._pool = Together(pool, together)
        self._sigma = sigma
        self._timeline = Timeline()
        self._attackers = Attackers(fleet.boards)
        self._live = LiveFleet(fleet.boards, self._timeline, server=fleet.server, on_turn=self._turn)
        self._most: dict[int, Budget] = {}
        """By client, what it can afford at most, learnt from a task over which workers died."""
        self._ready: list[tuple[float, int, str, Callable[[], Message]]] = []
        """When a reply came, its request's place in the order of sending and id, and what makes it once it is read."""
        self._awake = False
        self._turned: set[int] = set()
        """Clients whose boards have come on or gone off since somebody last asked who is on."""
        if begin:
            self._live.begin()
            self._turned.update(self._live.eventful)

    def meet(self) -> Guests:
        """Let all boards introduce themselves, each by a message there and back, those too that are off; return them.

        A million messages would say nothing that is not known here.
        """
        boards = self._boards
        known = one_of_each(boards)
        self.jump_to(self.clock() + max(2 * board.link.latency_s for board in known))
        nodes = np.arange(FIRST_NODE, FIRST_NODE + len(boards))
        changing = any(board.changes or board.attack for board in known)
        clients = Made(len(boards), self._met) if changing else self._introductions
        return Guests(nodes=Nodes(nodes, np.arange(len(boards))), clients=clients)

    def _met(self, client: int) -> Introduction:
        """Return what a client said of itself when it was asked first."""
        board = self._boards[client]
        honest = self._introductions[client].with_budget(budget_of(board.at(2 * board.link.latency_s)))
        return introduced(board, honest)

    def clock(self) -> float:
        """Return virtual seconds since the run began."""
        return self._timeline.now_s

    def idle(self, at_most_s: float) -> None:
        """Go to the next moment when a reply comes or a board comes on, or by ``at_most_s`` if that is sooner.

        FleetStalled if nothing will ever happen.
        """
        limit_s = self.clock() + at_most_s
        self._awake = False
        while not self._awake:
            until_s = min(self._timeline.next_s, limit_s)
            if until_s == float("inf"):
                empty = len(self._live.empty())
                raise FleetStalled(
                    "nothing is under way and nothing is due: the fleet has stalled"
                    + (f"; {empty} of {len(self._boards)} boards have used up their energy" if empty else "")
                )
            if until_s == limit_s:
                self.jump_to(limit_s)
                return
            self._timeline.run(until_s)

    def jump_to(self, time_s: float) -> None:
        """Move the clock to ``time_s``, delivering what is due until then."""
        self._timeline.at(time_s, lambda: None)
        self._timeline.run(time_s)

    def off_s(self) -> dict[int, float]:
        """Return for how long boards have been off so far, of all clients whose boards ever are."""
        return self._live.off_s()

    def empty_batteries(self) -> list[int]:
        """Return the clients whose boards have used up their energy."""
        return list(self._live.empty())

    def state(self) -> dict[str, Any]:
        """Return where the fleet stands, as JSON values."""
        most = {str(client): [budget.keep, budget.memory_bytes] for client, budget in self._most.items()}
        groups = self._pool.state()
        return {**self._live.state(), **({"most": most} if most else {}), **({"together": groups} if groups else {})}

    def restore(self, now_s: float, state: dict[str, Any]) -> None:
        """Put the fleet where it stood at ``now_s``; ``resend`` follows for each message that was under way."""
        self.jump_to(now_s)
        for client, (keep, memory_bytes) in state.get("most", {}).items():
            self._most[int(client)] = Budget(keep=keep, memory_bytes=memory_bytes, speed=None)
        self._pool.restore(state.get("together", ()))
        self._live.restore(state, lambda end: self._wake())  # the server looks up, as at a reply it does not want
        self._turned.update(self._live.eventful)

    def resend(self, sent_s: float, message: Message) -> str:
        """Send a message again whose task has been under way since ``sent_s``; return its new id."""
        message_id = self.number(message)
        task, errand = self._errand(message, sent_s)
        self._live.attach(errand.client, self._work(message, task, errand, sent_s))
        return message_id

    def get_node_ids(self) -> Iterable[int]:
        """Return the boards that are on: the same set each time, which changes."""
        for client in self._turned:
            self._on.set(client, self._live.is_on(client))
        self._turned.clear()
        return self._on

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        return [self._push(message) for message in messages]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Yield the replies one by one: whoever lets go of each before the next holds but one board's numbers."""
        wanted = message_ids if isinstance(message_ids, Set) else set(message_ids)
        ready = sorted(self._ready, key=lambda entry: entry[:2])  # by time, then as they were sent
        self._ready = [entry for entry in ready if entry[2] not in wanted]
        return _made(deque(make for _, _, request_id, make in ready if request_id in wanted))

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        waiting = set(self.push_messages(messages))
        until_s = float("inf") if timeout is None else self.clock() + timeout
        replies: list[Message] = []
        while waiting and self.clock() < until_s:
            self.idle(until_s - self.clock())
            replies += self.pull_messages(waiting)
            waiting -= {reply.metadata.reply_to_message_id for reply in replies}
        return replies

    def _push(self, message: Message) -> str:
        message_id = self.number(message)
        if message.metadata.message_type == MessageType.QUERY:
            self._introduce(message)
        else:
            task, errand = self._errand(message, self.clock())
            self._live.start(errand, self._work(message, task, errand, self.clock()))
        return message_id

    def _introduce(self, request: Message) -> None:
        """A board that sits out is asked what it can afford by now, which takes no time to speak of."""
        client = self._client(request)
        budget = self._affords(self._boards[client])
        self._deliver(request, records.introduction_reply(request, self._introductions[client].with_budget(budget)))

    def _client(self, request: Message) -> int:
        """Return whom a message is for; KeyError if there is no such node."""
        node = request.metadata.dst_node_id
        if not 0 <= node - FIRST_NODE < len(self._boards):
            raise KeyError(node)
        return node - FIRST_NODE

    def _errand(self, request: Message, sent_s: float) -> tuple[Task, Errand]:
        """Return the message's task, and what it is to the fleet: the same whenever it is asked for."""
        task, client = wire.read_task(request), self._client(request)
        begun, known = self._boards[client], self._introductions[client]
        board = begun.at(sent_s)
        # a board given more than it ever held goes on as it began: only what it could hold before can cease to fit
        held = board is begun or not board.profile.memory_bytes < peak_memory_bytes(task) <= begun.profile.memory_bytes
        cost = price(task, board, samples=known.samples, test_samples=known.test_samples, sigma=self._sigma)
        lost = drops(task, board)
        return task, Errand(
            client=board.client,
            cost=cost,
            bytes_down=download_bytes(task),
            bytes_up=upload_bytes(task),
            drops_s=None if lost is None else lost * cost.total_s,
            fits=held,
        )

    def _work(self, request: Message, task: Task, errand: Errand, sent_s: float) -> Callable[[End], None]:
        """Put the task into the pool, to be done when it is due; return what replies when the board is through."""
        if errand.drops_s is not None or not errand.fits:  # nobody will ask for the result
            return lambda end: self._deliver(request, self._lost(request, end))
        job = self._pool.submit(
            self._attackers.work(task, self._boards[errand.client], sent_s),
            task.parameters,
            lambda vector: wire.weights_into(request, task, vector),
            priority=sent_s + errand.cost.total_s,
            source=wire.model_of(request),
        )

        def reply(end: End) -> None:
            if end.lost:
                self._pool.cancel(job)
                self._deliver(request, self._lost(request, end))
                return
            more = {"cost": dict(vars(end.cost)), **self._budget(request)}
            self._deliver_when_read(request, lambda: self._found(request, task, end, job, sent_s, more))

        return reply

    def _found(self, request: Message, task: Task, end: End, job: Any, sent_s: float, more: dict[str, Any]) -> Message:
        """Return the reply with what a task found, which may not be there yet."""
        try:
            facts, vector = self._pool.result(job)
        except TaskKilled as error:
            self._halve(task, self._client(request))
            return self._lost(request, replace(end, lost=KILLED), detail=str(error))
        except TaskFailed as error:
            return Message(Error(code=CLIENT_RAISED, reason=str(error)), reply_to=request)
        facts, vector = self._attackers.reply(task, self._boards[self._client(request)], sent_s, facts, vector)
        return wire.result_reply(request, {**facts, **more}, vector)

    def _budget(self, request: Message) -> dict[str, Any]:
        """Return what a reply says of the board's budget, if that ever changes."""
        board = self._boards[self._client(request)]
        if not board.changes and board.client not in self._most:
            return {}
        return {"budget": asdict(self._affords(board))}

    def _affords(self, board: Board) -> Budget:
        """Return what a board can afford now."""
        budget, most = budget_of(board.at(self.clock())), self._most.get(board.client)
        if most is None:
            return budget
        keep = budget.keep and min(budget.keep, most.keep or budget.keep)
        return replace(budget, keep=keep, memory_bytes=min(budget.memory_bytes, most.memory_bytes))

    def _halve(self, task: Task, client: int) -> None:
        """Workers died over ``task``, most likely for memory: from now on half of it is what the client can afford."""
        budget = self._affords(self._boards[client])
        keep = budget.keep and budget.keep / 2
        memory_bytes = min(budget.memory_bytes, peak_memory_bytes(task) // 2)
        self._most[client] = replace(budget, keep=keep, memory_bytes=memory_bytes)

    def _lost(self, request: Message, end: End, *, detail: str = "") -> Message:
        """Return the reply for a task that was lost; for want of memory, it says what can be held instead."""
        figures = {**vars(end.cost), "bytes_down": end.bytes_down, "bytes_up": end.bytes_up}
        facts = self._budget(request) if end.lost in ("memory", KILLED) else {}
        return wire.loss_reply(request, end.lost or "", detail or LOSSES[end.lost or ""], figures, **facts)

    def _deliver(self, request: Message, reply: Message) -> None:
        self._deliver_when_read(request, lambda: reply)

    def _deliver_when_read(self, request: Message, make: Callable[[], Message]) -> None:
        message_id = request.metadata.message_id
        self._ready.append((self.clock(), int(message_id.removeprefix("message-")), message_id, make))
        self._awake = True

    def _turn(self, client: int, on: bool) -> None:
        """A board has come on, which the server must hear of, or gone off."""
        self._turned.add(client)
        self._awake |= on

    def _wake(self) -> None:
        self._awake = True


def _made(makers: deque[Callable[[], Message]]) -> Iterator[Message]:
    while makers:
        yield makers.popleft()()
