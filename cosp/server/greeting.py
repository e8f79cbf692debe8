"""Who takes part: every node says which client it is before the first round, or later if it could not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from typing import Any, NamedTuple

from flwr.app import Message
from flwr.serverapp import Grid

from cosp.errors import CospError, RefusedUpdate
from cosp.fleet.introduction import Introduction
from cosp.recipe import Recipe, difference
from cosp.server.clock import POLL_S, Clock
from cosp.submodel.words import joined
from cosp.wire import door
from cosp.wire import messages as wire

Row = dict[str, Any]

GRACE_S = 3.0
"""How long nodes that cannot take part may be the only ones there."""
INTRODUCTIONS = 3
"""How often a node may fail to introduce itself before the run begins without it."""


class Wanted(NamedTuple):
    """What a server knows of words before it asks boards for theirs: how many there are, and which everybody holds."""

    vocabulary: int
    special: tuple[int, ...]


class Greeter:
    """Asks nodes who they are; ``found`` are those who said it rightly, each the only one of its number.

    ``boards``: how many clients the fleet has, 0, 1, ...; ``recipe``: how the run's samples were made, and so those of
    every board must have been; None compares nothing; ``words``: what is known of those that each is asked for, None if
    none is. Who says it wrongly is kept out and told to ``on_refused``, once for each thing that it says; it may be
    asked again, and is told why then. ``on_wait`` is called now and then while boards are waited for.
    """

    def __init__(
        self,
        grid: Grid,
        boards: int,
        *,
        recipe: Recipe | None = None,
        words: Wanted | None = None,
        banned: Collection[int] = (),
        on_refused: Callable[[Row], None] = lambda row: None,
        on_wait: Callable[[Greeter], None] = lambda greeter: None,
    ) -> None:
        self.found: dict[int, Introduction] = {}
        self.boards = boards
        self._grid = grid
        self._recipe = recipe
        self._words = words
        self._banned = set(banned)
        self.on_refused = on_refused
        self._on_wait = on_wait
        self._clock = Clock(grid)
        self._waiting: dict[str, int] = {}
        self._asked_s: dict[int, float] = {}
        self._failures = Counter[int]()
        self._why: dict[int, str] = {}
        """Node -> what was wrong with the last thing it said."""

    @property
    def complete(self) -> bool:
        """Say whether every number of the fleet is taken."""
        return len(self.found) >= self.boards

    def greet(self, *, timeout_s: float, least: int | None = None) -> None:
        """Ask until every client is there, or all but those who are kept out and ``least`` clients (half of them).

        CospError if fewer are left, or come within ``timeout_s`` of the grid's clock; with a ``least`` the run begins
        after that time with those who came.
        """
        clock = self._clock
        started_s, enough = clock.now_s(), least_of(self.boards, least)
        alone_s = started_s
        while not self.complete:
            self.ask(self._known() - self._kept_out())
            for node in self._waiting.values():
                self._asked_s.setdefault(node, clock.now_s())
            self.hear()
            self._on_wait(self)
            out = self._kept_out()
            if self.found or not out or self._unsettled():
                alone_s = clock.now_s()
            full = len(self.found) + len(out) >= self.boards and not self._unsettled()
            if not self.complete and (full or clock.now_s() - alone_s > GRACE_S):
                if len(self.found) < enough:
                    raise CospError(f"{self._count()} can take part, at least {enough} must (server.min_clients): "
                                    + self._reasons())  # fmt: skip
                return
            if clock.now_s() - started_s > timeout_s:
                if least is not None and len(self.found) >= least:
                    return
                raise CospError(
                    f"{self._count()} introduced themselves within {timeout_s:.0f} s; {len(self._known())} nodes are "
                    f"connected: connect {self.boards}, one a board of the fleet"
                    + self._reasons(before="; ")
                    + self._silent()
                )
            if not self.complete:
                clock.idle(POLL_S)

    def ask(self, nodes: Iterable[int]) -> None:
        """Ask those of ``nodes`` who they are that have not said it yet and are not being asked."""
        asked = self.found.keys() | self._banned | set(self._waiting.values())
        new = sorted(set(nodes) - asked)
        asks = self._words is not None
        requests = [wire.introduction_request(node, self._why.get(node, ""), words=asks) for node in new]
        ids = self._grid.push_messages(requests) if requests else []
        self._waiting |= {message_id: node for message_id, node in zip(ids, new, strict=False) if message_id}

    def ask_missing(self) -> None:
        """Ask all that are connected and have not said who they are, if any of the fleet is missing."""
        if not self.complete:
            self.ask(self._known())

    def hear(self) -> list[int]:
        """Return the nodes that have said by now who they are."""
        new = []
        for reply in self._grid.pull_messages(list(self._waiting)) if self._waiting else ():
            node = self._waiting.pop(reply.metadata.reply_to_message_id, None)
            if node is not None and self._let_in(node, reply):
                new.append(node)
        return new

    def silent_s(self) -> dict[int, float]:
        """Return the nodes that are connected and were asked, and for how long each has said nothing."""
        silent = set(self._waiting.values()) & self._known() - self._kept_out()
        now_s = self._clock.now_s()
        return {node: now_s - self._asked_s[node] for node in sorted(silent) if node in self._asked_s}

    def refuse(self, node: int, why: str) -> None:
        """Keep ``node`` out; it may be asked again."""
        self.found.pop(node, None)
        if self._why.get(node) != why:
            self._why[node] = why
            self.on_refused({"kind": "refused", "node": node, "reason": "introduction", "detail": why})

    def _let_in(self, node: int, reply: Message) -> bool:
        try:
            if reply.has_error():
                self._failures[node] += 1
                raise RefusedUpdate("introduction", _last_line(wire.read_error(reply.error)[1]))
            told = wire.read_introduction(reply)
            self._check(told)
            told = replace(told, words=self._held(told))
        except RefusedUpdate as refused:
            if not reply.has_error():
                self._failures[node] = INTRODUCTIONS  # it would say the same again
            if self._failures[node] >= INTRODUCTIONS:
                self.refuse(node, str(refused).removeprefix("introduction: "))
            return False
        self.found[node] = told
        self._why.pop(node, None)
        return True

    def _check(self, told: Introduction) -> None:
        if told.client >= self.boards:
            raise RefusedUpdate(
                "introduction", f"client: must be one of the fleet's, 0 to {self.boards - 1}, got {told.client}"
            )
        owner = next((node for node, known in self.found.items() if known.client == told.client), None)
        if owner is not None:
            raise RefusedUpdate(
                "introduction",
                f"client: {told.client} ({told.board}) is taken by node {owner} ({self.found[owner].board}); "
                "give each board a --number of its own",
            )
        other = self._other(told)
        if other is not None:
            raise RefusedUpdate(
                "introduction", f"{other}; make its store anew by the run's recipe: cosp server recipe CONFIG"
            )

    def _other(self, told: Introduction) -> str | None:
        """Say what of a board's samples was made otherwise than the run's, None if nothing that it says."""
        if self._recipe is None:
            return None
        if len(told.class_counts) != len(self._recipe.classes):
            wanted, found = len(self._recipe.classes), len(told.class_counts)
            return f"classes: the task has {wanted} classes, the board's data {found}"
        return None if told.recipe is None else difference(self._recipe, told.recipe)

    def _held(self, told: Introduction) -> tuple[int, ...] | None:
        """Return which words a board holds that tells its own: the special ones, too. Who tells none holds all."""
        if self._words is None or told.words is None:
            return None
        if told.words[-1] >= self._words.vocabulary:
            raise RefusedUpdate(
                "introduction",
                f"words: must lie below the model's {self._words.vocabulary}, got {told.words[-1]}; make the board's "
                "store with the experiment's configuration",
            )
        return joined(told.words, self._words.special)

    def _known(self) -> set[int]:
        return set(self._grid.get_node_ids()) - self._banned

    def _kept_out(self) -> set[int]:
        return self._banned | {node for node, count in self._failures.items() if count >= INTRODUCTIONS}

    def _unsettled(self) -> bool:
        """Say whether somebody who is connected has neither been let in nor kept out."""
        return bool(self._known() - self.found.keys() - self._kept_out())

    def _count(self) -> str:
        return f"{len(self.found)} of {self.boards} clients"

    def _reasons(self, before: str = "") -> str:
        told = "; ".join(f"node {node}: {why}" for node, why in sorted(self._why.items())[:5])
        return before + told if told else ""

    def _silent(self) -> str:
        """Say who is connected, was asked and says nothing: on a starved board Flower's ClientApp does not start."""
        silent = sorted(set(self._waiting.values()) & self._known())
        if not silent:
            return ""
        return (
            f"; connected but silent: node {', '.join(map(str, silent[:5]))}: is its trainer up, and has it free CPU "
            "to start Flower's ClientApp? Its own log says so"
        )


def least_of(boards: int, asked: int | None) -> int:
    """Return how many clients are enough for a run: as ``asked``, or half of the fleet."""
    return (boards + 1) // 2 if asked is None else asked


def _last_line(reason: str) -> str:
    """Return the last line of an error's reason, where it says why."""
    lines = reason.replace("\\n", "\n").strip().splitlines() or ["no reason given"]
    return door.cleaned(lines[-1].strip(), door.MOST_DETAIL)
