"""The semi-asynchronous loop over a Flower Grid: dispatch to the idle, merge what arrives, close at quorum or deadline.

It uses ``get_node_ids``, ``push_messages`` and ``pull_messages`` of any Grid, and a clock: a virtual-time grid brings
its own (``clock``, ``idle``), any other gets the wall clock. Synchronous rounds are quorum 1.0, fully asynchronous ones
quorum 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import takewhile, zip_longest
from typing import Any, NamedTuple

import numpy as np
from flwr.app import Message
from flwr.serverapp import Grid

from cosp.errors import CospError, FleetStalled, RefusedUpdate
from cosp.fleet.introduction import Budget, Introduction
from cosp.server.admission import Admission
from cosp.server.clock import Clock
from cosp.server.conduct import Conduct
from cosp.server.coordinator import ClosedRound, Coordinator
from cosp.server.evaluation import CountPredictions, Evaluation, Judge
from cosp.server.greeting import Greeter
from cosp.server.heads import HeadFit
from cosp.server.ledger import NO_FIGURES, Ledger
from cosp.server.nodes import Nodes, set_of
from cosp.server.roster import Roster
from cosp.server.rows import arrival_row, budget_row, client_row, reported
from cosp.server.rules import LoopRules
from cosp.server.waiting import Waiting
from cosp.task.demand import upload_bytes
from cosp.task.task import Task
from cosp.wire import door
from cosp.wire import messages as wire
from cosp.wire.door import Facts
from cosp.wire.replies import taken_once

Row = dict[str, Any]

BARREN_ROUNDS = 20
"""How often nobody may bring an update to a version before the run gives up."""


class Dispatch(NamedTuple):
    """A task on its way: to whom, and when it left."""

    task: Task
    node: int
    sent_s: float


class Loop:
    """Runs rounds until ``rules`` end the run. ``on_row`` gets every row, ``on_round`` is called at every close and
    ``on_step`` whenever something may have changed.

    ``count`` None evaluates nothing (a dry run), ``backdoor`` is the class to which one of the fleet leads. ``observe``
    may find in an accepted task's row that its client can afford something else than it said. ``greeter`` knows who is
    still missing of the fleet, ``admission`` what is believed of what a board claims; without them everybody is there,
    and everything is. ``began_s``: what the clock showed when the run broke off, for a grid that has no clock of its
    own.
    """

    def __init__(
        self,
        grid: Grid,
        coordinator: Coordinator,
        nodes: Nodes,
        *,
        rules: LoopRules,
        count: CountPredictions | None,
        backdoor: int | None = None,
        on_row: Callable[[Row], None],
        on_round: Callable[[Loop], None] = lambda loop: None,
        on_step: Callable[[Loop], None] = lambda loop: None,
        observe: Callable[[Task, Row], Budget | None] = lambda task, row: None,
        greeter: Greeter | None = None,
        admission: Admission | None = None,
        ledger: Ledger | None = None,
        began_s: float = 0.0,
    ) -> None:
        self.grid = grid
        self.coordinator = coordinator
        self.nodes = nodes
        self.rules = rules
        self.ledger = ledger or Ledger()
        self.in_flight: dict[str, Dispatch] = {}
        self.ended_early: str | None = None
        """Why the run ended with fewer versions than wanted, if it did: no board is left that could work."""
        self._judge = Judge(count, backdoor)
        self._clock = Clock(grid, began_s)
        self._on_row = on_row
        self._on_round = on_round
        self._on_step = on_step
        self._observe = observe
        self._greeter = greeter
        self._admission = admission or Admission((), simulated=True)
        self._roster = Roster(nodes)
        self._waiting = Waiting(coordinator.records, self.ledger.busy_s)
        self.conduct = Conduct(
            self.ledger,
            boards=greeter.boards if greeter else len(nodes),
            ban_after=rules.ban_after,
            min_clients=rules.min_clients,
        )
        for client in self.conduct.banned:
            self._roster.leave(client)
        self._asked: dict[str, int] = {}
        """Message id -> client that sits out and was asked what it can afford."""
        self._barren = 0
        self._closed_s = 0.0

    def run(self) -> None:
        if self.coordinator.heads is not None:
            self._all_wait()
            self._fit_heads(self.coordinator.heads)
        else:
            self._begin()
        self._closed_s = self.now_s()  # a checkpoint is made as a round closes
        if self.coordinator.version == 0:
            self._report_round("start", self._nothing())
        try:
            while self.coordinator.version < (self.rules.versions or math.inf) and self._time_left_s() > 0:
                self._fill_round()
        except FleetStalled as stalled:
            if not self.coordinator.version:
                raise
            idle = len(self.coordinator.sitting_out)
            self.ended_early = f"{stalled}; {idle} of {len(self.nodes)} boards sit out" if idle else str(stalled)
            self._on_row({"kind": "end", "version": self.coordinator.version, "virtual_s": self.now_s(),
                          "reason": self.ended_early})  # fmt: skip
        if self._time_left_s() <= 0:
            self._report_round("end", self._nothing())

    def _begin(self) -> None:
        """Let everybody who has no task wait for one, but for those who sit out; of a million who were never given any,
        none is looked at.
        """
        begun = set(self.coordinator.records.begun())
        self._roster.begin(np.setdiff1d(self.nodes.clients, [*begun, *self.coordinator.sitting_out]))
        for client in sorted(begun - {dispatch.task.client for dispatch in self.in_flight.values()}):
            if self.nodes.has(client):
                self._wait(client)
                self.coordinator.put_away(client)

    def _all_wait(self) -> None:
        """The same, client by client, as some may have nothing to do."""
        for client in set(self.nodes.values()) - {dispatch.task.client for dispatch in self.in_flight.values()}:
            self._wait(client)
            self.coordinator.put_away(client)

    def _fit_heads(self, heads: HeadFit) -> None:
        """Ask every board for its moments, once, and begin with the heads that they give.

        All that are at work are waited for, up to the rules' deadline; who is lost on the way gives nothing.
        """
        opened_s = self.now_s()
        self._dispatch()
        while self._time_left_s() > 0:
            self._on_step(self)
            left_s = self._left_s(opened_s) if heads.clients else math.inf
            if heads.clients and (not self.in_flight or left_s <= 0):
                break
            if not self.in_flight:
                self._revive()
                self._dispatch()
            self._clock.idle(min(left_s, self._time_left_s()))
            self._receive()
            self._forget_overdue()
            self._dispatch()
        self._barren = 0
        told = self.coordinator.fit_heads()
        self._on_row({"kind": "heads", "version": self.coordinator.version, "virtual_s": self.now_s(), **told})
        self._roster.wake()
        self._all_wait()

    def resend(self, dispatches: Sequence[Dispatch], send: Callable[[float, Message], str]) -> None:
        """Put a checkpoint's tasks back in flight; ``send`` is given when they were first sent."""
        for dispatch in dispatches:
            message = self._instruction(dispatch.task, dispatch.node)
            self.in_flight[send(dispatch.sent_s, message)] = dispatch

    def lose(self, dispatches: Sequence[Dispatch], reason: str) -> None:
        """Go on where a run broke off: count its tasks as failed, as their replies are lost with it, and ask again."""
        self._on_row({"kind": "resume", "version": self.coordinator.version, "virtual_s": self.now_s()})
        for dispatch in dispatches:
            self._fail(dispatch, reason)
            self._ask_again(dispatch.task.client)
        self._wake()

    def _fill_round(self) -> None:
        opened_s = self.now_s()
        self._welcome()
        self._ask()
        self._dispatch()
        fewest = self.rules.fewest
        wanted = max(fewest, self.rules.arrivals_wanted(len(self.in_flight)))
        while True:
            self._on_step(self)
            arrived = self.coordinator.arrivals
            if arrived and arrived >= min(wanted, arrived + len(self.in_flight)):
                return self._close("quorum")
            if arrived >= fewest and self._left_s(opened_s) <= 0:
                return self._close("deadline")
            if self._time_left_s() <= 0:
                return None
            self._clock.idle(min(self._left_s(opened_s) if arrived >= fewest else math.inf, self._time_left_s()))
            self._receive()
            self._hear()
            self._welcome(ask=False)
            self._forget_overdue()
            self._dispatch()
            if not self.in_flight and not self.coordinator.arrivals:
                self._revive()
                self._dispatch()

    def _close(self, closed_by: str) -> None:
        try:
            closed = self.coordinator.close_round([dispatch.task for dispatch in self.in_flight.values()])
        except RefusedUpdate as refused:
            self._throw_away(refused)
            return
        self._wake()
        self._barren = 0
        self._report_round(closed_by, closed)
        self._on_round(self)

    def _throw_away(self, refused: RefusedUpdate) -> None:
        """Count and name a round whose merge can be no version, and ask for another; CospError if that is no use."""
        self.ledger.count_refused(refused.reason)
        self._on_row({"kind": "refused", "client": None, "node": None, "reason": refused.reason,
                      "detail": str(refused), **self._moment()})  # fmt: skip
        self._ask_everybody_again()

    def _nothing(self) -> ClosedRound:
        """Return what stands in for a round where none was closed: at the start, and at ``until_s``."""
        return ClosedRound(self.coordinator.version, 0, (0.0,) * self.coordinator.shape.blocks, None)

    def _dispatch(self) -> None:
        """Send a task to every idle client that has not yet worked on this version, as far as concurrency allows."""
        room = math.inf if self.rules.concurrency is None else self.rules.concurrency - len(self.in_flight)
        messages: list[Message] = []
        dispatches: list[Dispatch] = []
        for node, client in self._roster.take(self.grid.get_node_ids(), room):
            task = self.coordinator.next_task(client)
            messages.append(self._instruction(task, node))
            dispatches.append(Dispatch(task, node, self.now_s()))
        sent = list(self.grid.push_messages(messages)) if messages else []
        for dispatch, message_id in zip_longest(dispatches, sent):  # a grid that cannot send may return no ids at all
            if message_id:
                self.in_flight[message_id] = dispatch
            else:
                self._fail(dispatch, "not-sent")

    def _instruction(self, task: Task, node: int) -> Message:
        weights, model = self.coordinator.weights(task), self.coordinator.snapshots[task.version]
        return wire.instruction(task, weights, node=node, model=model)

    def _receive(self) -> None:
        replies = self.grid.pull_messages(self.in_flight.keys())
        for dispatch in taken_once(replies, self.in_flight, take=self._hear_of, second=self._refuse_second):
            self.conduct.told_the_truth(dispatch.task.client)

    def _hear_of(self, dispatch: Dispatch, reply: Message) -> bool:
        """Take in what came of a task; True if it brought something."""
        if not reply.has_error():
            return self._take(dispatch, reply)
        self._fail(dispatch, *wire.read_error(reply.error))
        self._learn(dispatch.task.client, self._admitted(dispatch, wire.error_budget(reply.error)))
        self.coordinator.put_away(dispatch.task.client)
        return False

    def _refuse_second(self, dispatch: Dispatch | None) -> None:
        """Count and name a reply to a message that has been answered, or that nobody sent."""
        self.ledger.count_refused("twice")
        client = None if dispatch is None else dispatch.task.client
        self._on_row({"kind": "refused", "client": client, "node": None if dispatch is None else dispatch.node,
                      "reason": "twice", "detail": "the message has been answered", **self._moment()})  # fmt: skip
        if dispatch is not None:
            self._lied(dispatch, "twice")

    def _lied(self, dispatch: Dispatch, reason: str) -> None:
        """Count a lie; who has told too many in a row is banned. CospError if too few are left then."""
        ban = self.conduct.lied(dispatch.task.client, dispatch.node, reason)
        if ban is not None:
            self._roster.leave(dispatch.task.client)
            self._on_row(ban | self._moment())
            self.conduct.check_left(len(self.nodes))

    def _moment(self) -> Row:
        return {"version": self.coordinator.version, "virtual_s": self.now_s()}

    def _admitted(self, dispatch: Dispatch, budget: Budget | None) -> Budget | None:
        return None if budget is None else self._admission.budget(dispatch.task.client, budget)

    def _take(self, dispatch: Dispatch, reply: Message) -> bool:
        """Take in what a task found, if it can be; True if so."""
        task, budget = dispatch.task, None
        row = self._arrival_row(dispatch)
        self.coordinator.note_kept(task)
        try:
            facts = wire.read_facts(reply, task)
            self._check_store(task.client, facts)
            budget = self._admitted(dispatch, door.budget_in(facts))
            row |= reported(row, facts)
            counted = self.coordinator.counted(task.client, facts.samples)
            if task.kind == "score":
                self.coordinator.take_scores(task, wire.read_vector(reply, most_bytes=2 * upload_bytes(task)))
            elif task.kind == "moments":
                found = wire.read_vector(reply, most_bytes=2 * upload_bytes(task))
                self.coordinator.take_moments(task, found, facts.samples)
            else:
                if (epsilon := self.coordinator.epsilon(task.client)) is not None:
                    row["epsilon"] = epsilon
                row["weight"] = self.coordinator.take_update(
                    task,
                    wire.read_update(reply, task),
                    facts.samples,
                    on_clip=lambda scale: row.update(clipped=scale),
                )
            row["accepted"] = True
            if counted < facts.samples:
                row |= {"samples": counted, "claimed": {"samples": facts.samples}}
        except RefusedUpdate as refused:
            row["reason"], row["detail"] = refused.reason, str(refused)
        row = self._admission.row(row)
        self.ledger.count_task(row)
        self._waiting.note(task.client)
        self._on_row(row)
        if row["reason"] in door.LIES:
            self._lied(dispatch, row["reason"])
        elif row["reason"] == "introduction":
            self._roster.leave(task.client)  # until the run goes on anew: its owner has to look
        self._learn(task.client, budget or (self._observe(task, row) if row["accepted"] else None))
        failed = not row["accepted"] and row["reason"] != "stale"
        if failed or self.coordinator.records[task.client].last_version == self.coordinator.version:
            self._roster.rest(task.client)
        else:
            self._wait(task.client)
        self.coordinator.put_away(task.client)
        return bool(row["accepted"])

    def _check_store(self, client: int, facts: Facts) -> None:
        """RefusedUpdate if a board trained on a store made otherwise than the one that it introduced itself with."""
        known = self.coordinator.records[client].introduction.recipe
        if known is not None and facts.recipe is not None and facts.recipe != known.mark:
            raise RefusedUpdate(
                "introduction",
                "its trainer has another store than it introduced itself with: it is sent nothing more; put the store "
                "back, then go on with --resume",
            )

    def _learn(self, client: int, budget: Budget | None) -> None:
        """Take note of what a client can afford now: its next plan follows it, or it sits out."""
        if budget is not None and self.coordinator.learn(client, budget):
            record = self.coordinator.records[client]
            self._on_row(budget_row(record, version=self.coordinator.version, now_s=self.now_s()))

    def _welcome(self, *, ask: bool = True) -> None:
        """Let those of the fleet in who were missing when the run began; ask them, once a version."""
        greeter = self._greeter
        if greeter is None or greeter.complete:
            return
        if ask:
            greeter.ask_missing()
        for node in greeter.hear():
            self._join(node, greeter.found[node])

    def _join(self, node: int, told: Introduction) -> None:
        """Let a client take part from now on, as the coordinator's and the roster's."""
        admitted = self._admission.admit(told)
        client = admitted.introduction
        self.coordinator.add(client)
        self.coordinator.records.note_claim(client.client, admitted.claimed)
        self._waiting.join(client)
        self._on_row(client_row(client, admitted.claimed, admitted.planned))
        if self.coordinator.method.takes_part(client):
            self.nodes.join(node, client.client)
            self._roster.join(client.client)
            self._wait(client.client)

    def _ask(self) -> None:
        """Ask those who sit out what they can afford by now, once a version: who is sent no task sends no reply."""
        banned = set(self.conduct.banned)
        idle = [one for one in self.coordinator.sitting_out if one not in banned and self.nodes.has(one)]
        if not idle:
            return
        known = set_of(self.grid.get_node_ids())
        asked = [(node, client) for client in idle if (node := self.nodes.node_of(client)) in known]
        sent = self.grid.push_messages([wire.introduction_request(node) for node, _ in asked])
        self._asked = {number: client for number, (_, client) in zip(sent, asked, strict=False) if number}
        self._hear()

    def _hear(self) -> None:
        for reply in self.grid.pull_messages(list(self._asked)) if self._asked else ():
            client = self._asked.pop(reply.metadata.reply_to_message_id, None)
            if client is None:
                self._refuse_second(None)
                continue
            with suppress(RefusedUpdate):  # it is asked again at the next version
                if not reply.has_error():
                    self._learn(client, self._admission.budget(client, wire.read_introduction(reply).budget))
            self._wait(client)
            self.coordinator.put_away(client)

    def _arrival_row(self, dispatch: Dispatch) -> Row:
        board = self.coordinator.records[dispatch.task.client].introduction.board
        version = self.coordinator.version
        return arrival_row(dispatch.task, board, version=version, sent_s=dispatch.sent_s, arrived_s=self.now_s())

    def _fail(
        self, dispatch: Dispatch, reason: str, detail: str = "", figures: Mapping[str, float] = NO_FIGURES
    ) -> None:
        """Count and name a task that brought nothing; its client rests until the next version.

        ``figures``: what the grid knows of the spans, joules and bytes that it cost all the same.
        """
        self._roster.rest(dispatch.task.client)
        self.coordinator.forget_kept(dispatch.task.client)
        figures = self._admission.figures(figures)
        self.ledger.count_failure(dispatch.task.client, reason, self.now_s() - dispatch.sent_s, figures)
        self._waiting.note(dispatch.task.client)
        self._on_row({**self._arrival_row(dispatch), **figures, "reason": reason, "detail": detail[-400:]})

    def _forget_overdue(self) -> None:
        """Give up tasks that are out for longer than ``task_timeout_s``; a late reply is never asked for."""
        limit = self.rules.task_timeout_s
        if limit is not None:
            now_s = self.now_s()
            overdue = takewhile(lambda item: now_s - item[1].sent_s > limit, self.in_flight.items())  # the oldest first
            for message_id, _ in list(overdue):
                detail = f"no reply in {limit:g} s: raise server.task_timeout_s if the board still works"
                self._fail(self.in_flight.pop(message_id), "timeout", detail)

    def _revive(self) -> None:
        """Nobody is at work and nothing has arrived: ask the resting clients again, but not for ever.

        Real boards that are all cut off are waited for; a virtual grid knows by itself when nobody will come back.
        """
        left = set(self.nodes) - self.conduct.banned_nodes
        if not self._clock.virtual and not left & set(self.grid.get_node_ids()):
            return
        self._ask_everybody_again()

    def _ask_everybody_again(self) -> None:
        self._barren += 1
        if self._barren > BARREN_ROUNDS:
            raise CospError(
                f"no client brings an update to version {self.coordinator.version}: refused {self.ledger.refused}"
            )
        for client in self.coordinator.records.begun():
            self._ask_again(client)
        self._wake()

    def _ask_again(self, client: int) -> None:
        """Let ``client`` work on this version, even if it was sent it before."""
        record = self.coordinator.records[client]
        record.last_version = min(record.last_version, self.coordinator.version - 1)

    def _wake(self) -> None:
        for client in self._roster.wake():
            self._wait(client)

    def _wait(self, client: int) -> None:
        record = self.coordinator.records[client]
        if record.sits_out is None and self.coordinator.has_work(client):
            self._roster.wait(client, dispatches=record.dispatches)

    def _report_round(self, closed_by: str, closed: ClosedRound) -> None:
        now_s = self.now_s()
        due = closed_by == "end" or self.rules.due(closed.version, now_s, self._closed_s)
        self._closed_s = now_s
        self._on_row({
            "kind": "round", "version": closed.version, "virtual_s": now_s, "closed_by": closed_by,
            "arrivals": closed.arrivals, "in_flight": len(self.in_flight), "coverage": list(closed.coverage),
            "drift": closed.drift, "evaluation": self._evaluate() if due else None,
            "bytes_down": self.ledger.bytes_down, "bytes_up": self.ledger.bytes_up, "energy_j": self.energy_j(),
            "utilisation": self.utilisation(),
        })  # fmt: skip

    def _evaluate(self) -> Row | None:
        """Return the scores of the current version, None in a dry run."""
        found = self.judged()
        if found is None:
            return None
        self.ledger.note_evaluation(found)
        return found.as_row()

    def judged(self) -> Evaluation | None:
        """Return the scores of the current version, None in a dry run; totals and rows stay as they are."""
        return self._judge.judged(self.coordinator.version, self.coordinator.model)

    def now_s(self) -> float:
        """Seconds on the grid's clock, or on the wall since the run began."""
        return self._clock.now_s()

    def utilisation(self) -> float:
        running_s = sum(self.now_s() - dispatch.sent_s for dispatch in self.in_flight.values())
        return self.ledger.utilisation_at(self.now_s(), len(self.coordinator.records), running_s)

    def energy_j(self) -> float:
        """Energy of finished tasks and of waiting; unfinished tasks count as waiting until they end.

        A board that is off draws nothing: a virtual-time grid knows for how long it was (``off_s``).
        """
        return self.ledger.energy_j + self._waiting.energy_j(self.now_s(), self._clock.off_s())

    def _time_left_s(self) -> float:
        return self.rules.until_s - self.now_s()

    def _left_s(self, opened_s: float) -> float:
        deadline_s = self.rules.deadline_s
        return math.inf if deadline_s is None else opened_s + deadline_s - self.now_s()
