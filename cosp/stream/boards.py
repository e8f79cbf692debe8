"""The loop after deployment with real boards: as each window ends, those that are there are asked what they answered.

One message does it all: it brings a board the set that it is to have, and its reply a report, samples that it chose and
which set it has by then. A board that says to have another than the server takes it to is sent the whole at once. Who
says what it cannot is counted and named, and the others go on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from flwr.app import Message
from flwr.serverapp import Grid

from cosp.adaptation.acknowledged import Acknowledged, Sent
from cosp.adaptation.asked import Ask
from cosp.adaptation.download import WAYS, DownloadSettings
from cosp.adaptation.posted import Post
from cosp.errors import CospError, RefusedUpdate
from cosp.fleet.introduction import Introduction
from cosp.server.admission import Admission
from cosp.server.clock import POLL_S, Clock
from cosp.server.conduct import Conduct
from cosp.server.greeting import Greeter
from cosp.stream.board_rows import Row, brought_row, failed_row, served_row
from cosp.stream.question import Place, Question
from cosp.stream.server import Server
from cosp.task.task import Task
from cosp.task.training import TrainSettings
from cosp.wire import door
from cosp.wire import messages as wire
from cosp.wire.replies import taken_once
from cosp.wire.served import Served, read_served, serve_request

GREETING_S = 300.0
"""For how long a first board is waited for."""
LOOK_S = 5.0
"""How often it is looked for boards that have come."""
UNKNOWN_BASE = "unknown-base"
"""Why a set was lost on a board that does not have what it changes."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Of a stream; ``timeout_s`` is when a board that says nothing is given up. ``run`` tells it from any other."""

    run: str
    seed: int
    until_s: float
    window_s: float
    batch: int
    timeout_s: float
    download: DownloadSettings


class BoardLoop:
    """``places`` by client; ``known``: what each of them is known to have. ``on_joined`` is told who came."""

    def __init__(
        self,
        grid: Grid,
        greeter: Greeter,
        places: Mapping[int, Place],
        *,
        rules: Rules,
        post: Post,
        server: Server,
        known: Mapping[int, Acknowledged],
        conduct: Conduct,
        admission: Admission,
        on_row: Callable[[Row], None],
        on_joined: Callable[[Place, Introduction], None],
    ) -> None:
        self._grid, self._greeter, self._places = grid, greeter, dict(sorted(places.items()))
        self._rules, self._post, self._server, self._known = rules, post, server, known
        self._conduct, self._admission = conduct, admission
        self._on_row, self._on_joined = on_row, on_joined
        self._clock = Clock(grid)
        self._began_s: float | None = None
        """When the stream began, on the clock; None: it has not."""
        self._windows = math.ceil(rules.until_s / rules.window_s)
        self._window = 0
        """How many have ended."""
        self._in_flight: dict[str, Question] = {}
        self._newest = 0
        """The newest version that a board was sent."""
        self._looked_s = -math.inf
        self._met: set[int] = set()
        """Nodes that were asked who they are."""

    def run(self) -> None:
        """Wait for a board, then go through the windows, and until what was under way then has arrived."""
        self._gather()
        self._began_s = self._clock.now_s()
        while not self._over:
            self._look_for_boards()
            self._tick()
            self._dispatch()
            self._clock.idle(POLL_S)
            self._receive()
            self._give_up()

    @property
    def now_s(self) -> float:
        return 0.0 if self._began_s is None else self._clock.now_s() - self._began_s

    @property
    def _ended(self) -> bool:
        return self._window == self._windows

    @property
    def _over(self) -> bool:
        return self._ended and not self._in_flight and not self._free()

    def _gather(self) -> None:
        while not self._present():
            self._look_for_boards()
            if self._clock.now_s() > GREETING_S:
                raise CospError(
                    f"no board that holds a submodel introduced itself within {GREETING_S:.0f} s: see cosp server "
                    "nodes, and on a board cosp client --check"
                )
            if not self._present():
                self._clock.idle(POLL_S)

    def _present(self) -> bool:
        return any(place.node is not None for place in self._places.values())

    def _look_for_boards(self) -> None:
        """Let in who has said who it is, and ask who has come; who said it wrongly is asked again once a window."""
        if self._clock.now_s() - self._looked_s >= LOOK_S:
            self._looked_s = self._clock.now_s()
            here = set(self._grid.get_node_ids())
            self._greeter.ask(here if self._began_s is None else here - self._met)
            self._met |= here
        for node in self._greeter.hear():
            told = self._greeter.found[node]
            place = self._places.get(told.client)
            if place is None:
                detail = f"client {told.client} holds no submodel of the run that is deployed"
                self._on_row({"kind": "kept_out", "node": node, "reason": "introduction", "detail": detail})
                continue
            place.node, place.asked = node, not self._ended
            place.recipe = None if told.recipe is None else told.recipe.mark
            place.since_s = self.now_s
            self._on_joined(place, told)

    def _tick(self) -> None:
        """If windows have ended, ask every board, once."""
        ended = self._windows if self.now_s >= self._rules.until_s else int(self.now_s / self._rules.window_s)
        if ended > self._window:
            self._window = ended
            self._greeter.ask_missing()
            for place in self._places.values():
                place.asked = True

    def _free(self) -> list[tuple[int, Place]]:
        """Return the boards that are to be asked, are there and have nothing to do, each with its node."""
        here, banned = set(self._grid.get_node_ids()), set(self._conduct.banned)
        return [
            (place.node, place)
            for place in self._places.values()
            if place.asked and not place.busy and place.node in here and place.client not in banned
        ]

    def _dispatch(self) -> None:
        questions = [self._question(node, place) for node, place in self._free()]
        messages = [
            serve_request(one.ask, b"" if one.sent is None else one.sent.message, node=one.node) for one in questions
        ]
        ids = list(self._grid.push_messages(messages)) if messages else []
        for i, question in enumerate(questions):
            question.place.asked, question.place.busy = False, True
            question.place.turn += 1
            if i < len(ids) and ids[i]:
                self._in_flight[ids[i]] = question
            else:
                self._failed(question, "not-sent", "")

    def _question(self, node: int, place: Place) -> Question:
        held = self._known[place.client].held.get(place.client)
        sent = None if self._ended else self._next_set(place)
        base = None if held is None else held.version
        ask = Ask(
            task=Task(
                "serve", place.client, base or 0, place.turn, self._rules.seed, self._post.shape, place.plan,
                training=TrainSettings(batch_size=self._rules.batch), split="stream",
            ),
            run=self._rules.run,
            place=place.behind,
            most=place.most,
            exit=place.exit,
            upload=self._post.settings,
            download=self._rules.download,
        )  # fmt: skip
        return Question(
            place=place, node=node, ask=ask, sent=sent, base=base, window=max(1, self._window), sent_s=self.now_s
        )

    def _next_set(self, place: Place) -> Sent | None:
        """Return the set that a board is to be sent, if that is worth it; the whole, if nobody knows what it has."""
        target, known = self._server.target(place.client), self._known[place.client]
        held = known.held.get(place.client)
        if held is not None and target.version in (held.version, place.offered):
            return None
        place.offered = target.version
        link_bytes = place.board.link.downlink_bytes_per_s * self._rules.window_s
        weights = target.weights(place.plan).numpy()
        self._newest = max(self._newest, target.version)
        return known.next_message(place.client, target.version, weights, link_bytes=link_bytes)

    def _receive(self) -> None:
        replies = self._grid.pull_messages(list(self._in_flight)) if self._in_flight else ()
        for question in taken_once(replies, self._in_flight, take=self._take, second=self._second):
            self._conduct.told_the_truth(question.place.client)

    def _second(self, question: Question | None) -> None:
        """Count and name a reply to what has been answered, or what nobody asked."""
        self._on_row(failed_row(question, "twice", "the message has been answered", now_s=self.now_s))
        if question is not None:
            self._lied(question, "twice")

    def _take(self, question: Question, reply: Message) -> bool:
        """Take what a board says, if it can be taken; True if so."""
        if reply.has_error():
            reason, detail, _ = wire.read_error(reply.error)
            self._failed(question, reason, detail)
            return False
        try:
            served = read_served(reply, question.ask, self._post)
            self._check(question, served)
        except RefusedUpdate as refused:
            self._failed(question, refused.reason, str(refused))
            if refused.reason in door.LIES:
                self._lied(question, refused.reason)
            return False
        question.place.busy = False
        self._note(question, served)
        if served.report is not None:
            batches = [part.batch for part in served.uploads]
            for row in self._server.take(question.place.client, served.report, batches):
                self._on_row({**row, "virtual_s": self.now_s})
        return True

    def _check(self, question: Question, served: Served) -> None:
        """RefusedUpdate if a board says what cannot be."""
        place, facts = question.place, served.facts
        if place.recipe is not None and facts.recipe is not None and facts.recipe != place.recipe:
            raise RefusedUpdate("introduction", "its trainer has another store than it introduced itself with")
        if facts.place < place.behind + facts.samples:
            raise RefusedUpdate("malformed", f"place: {facts.place} is not behind {place.behind} + {facts.samples}")
        version = None if served.report is None else served.report.version
        if max(version or 0, facts.has or 0) > self._newest:
            raise RefusedUpdate("malformed", f"versions: {version} and {facts.has}, the newest is {self._newest}")

    def _note(self, question: Question, served: Served) -> None:
        """Write down what came and went, and what the board has by now."""
        place, known, sent = question.place, self._known[question.place.client], question.sent
        has_it = served.facts.has is not None and served.facts.has == question.expected
        lost = None if has_it else UNKNOWN_BASE
        if served.report is not None:
            row = served_row(question, served, since_s=place.since_s, now_s=self.now_s)
            self._on_row(self._admission.row(row))
            place.since_s = question.sent_s
        if sent is not None:
            row = brought_row(question, served, way=WAYS[sent.message[0]], lost=lost, now_s=self.now_s)
            self._on_row(self._admission.row(row))
        place.behind = served.facts.place
        if has_it and sent is not None:
            known.acknowledge(place.client, sent.after.version)
        elif not has_it:
            known.forget(place.client)
            place.asked = not self._ended and (sent is None or question.base is not None)  # the whole goes at once

    def _failed(self, question: Question, reason: str, detail: str) -> None:
        """Name what came to nothing; if a set was with it, nobody knows what the board has."""
        question.place.busy = False
        if question.sent is not None:
            self._known[question.place.client].forget(question.place.client)
        self._on_row(failed_row(question, reason, detail, now_s=self.now_s))

    def _lied(self, question: Question, reason: str) -> None:
        ban = self._conduct.lied(question.place.client, question.node, reason)
        if ban is not None:
            self._on_row({**ban, "virtual_s": self.now_s})
            self._conduct.check_left(len(self._places))

    def _give_up(self) -> None:
        """Wait no longer for boards that have said nothing for too long."""
        overdue = [key for key, one in self._in_flight.items() if self.now_s - one.sent_s > self._rules.timeout_s]
        for key in overdue:
            detail = f"no reply in {self._rules.timeout_s:g} s"
            self._failed(self._in_flight.pop(key), "timeout", detail)
