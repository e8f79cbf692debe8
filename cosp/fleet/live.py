"""A fleet at work in virtual time: whose task is where.

A task goes through three phases: download, compute, upload. Each takes what the cost model says, or longer where the
server's link is shared or the board is hot. A task is lost when its board drops out, goes off or runs out of energy;
the server learns so at once. A board does one task at a time: a new one replaces one that the server has given up.

``state`` and ``restore`` carry all of it as JSON values, so a resumed run goes on to the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from cosp.fleet.board import Board
from cosp.fleet.boards import Boards
from cosp.fleet.cost import Cost, task_j
from cosp.fleet.life import Life, eventful
from cosp.fleet.made import Made
from cosp.fleet.network import ServerLink, SharedLink
from cosp.fleet.timeline import Timeline

DOWNLOAD, COMPUTE, UPLOAD = range(3)


@dataclass(frozen=True, kw_only=True)
class Errand:
    """A task as the fleet sees it. ``drops_s``: the board drops out so long after the start. ``fits`` False: its memory
    no longer holds the task, as shows when that has arrived.
    """

    client: int
    cost: Cost  # on a cold board, with the network to itself
    bytes_down: int
    bytes_up: int
    drops_s: float | None = None
    fits: bool = True


@dataclass(frozen=True, kw_only=True)
class End:
    """How an errand ended: what it took, and why it was lost (``dropout``, ``off``, ``battery``, ``memory``) if so."""

    cost: Cost
    bytes_down: int
    bytes_up: int
    lost: str | None


OnEnd = Callable[[End], None]


@dataclass(kw_only=True)
class _Trip:
    """An errand under way."""

    errand: Errand
    sent_s: float
    phase: int = DOWNLOAD
    began_s: float = 0.0  # the phase
    due_s: float | None = None  # when the phase, or the latency before a shared transfer, is over; None: in the link
    elapsed_s: float = 0.0  # the spans, added in their order: undisturbed tasks end at exactly their priced time
    spans_s: list[float] = field(default_factory=list)  # of the phases so far, the present one as foreseen
    tickets: dict[str, int] = field(default_factory=dict)  # of what is due on the timeline


class LiveFleet:
    """The boards of a fleet at work. ``on_turn(client, on)`` runs when a board has come on or gone off.

    A board to which nothing can happen has a life only while it works.
    """

    def __init__(
        self,
        boards: Sequence[Board],
        timeline: Timeline,
        *,
        server: ServerLink,
        on_turn: Callable[[int, bool], None],
    ) -> None:
        self._boards, self._timeline, self._on_turn = boards, timeline, on_turn
        self._lives: dict[int, Life] = {}
        self._eventful = {client: self._life(client) for client in _eventful(boards)}
        self._trips: dict[int, _Trip] = {}
        self._on_end: dict[int, OnEnd] = {}
        self._shared: dict[int, SharedLink] = {}  # by phase, where the server's link may bind
        for phase, capacity, rate in (
            (DOWNLOAD, server.send_bytes_per_s, lambda client: boards[client].link.downlink_bytes_per_s),
            (UPLOAD, server.receive_bytes_per_s, lambda client: boards[client].link.uplink_bytes_per_s),
        ):
            if capacity < math.inf:
                limits = Made(len(boards), rate)
                self._shared[phase] = SharedLink(timeline, capacity, limits, lambda c: self._advance(self._trips[c]))

    def _life(self, client: int) -> Life:
        if client not in self._lives:
            self._lives[client] = Life(
                self._boards[client],
                self._timeline,
                on_up=partial(self._on_turn, client, True),
                on_down=partial(self._down, client),
            )
        return self._lives[client]

    def begin(self) -> None:
        """Start the boards' lives now."""
        for life in self._eventful.values():
            life.begin()

    @property
    def eventful(self) -> Iterable[int]:
        """Clients to whose boards anything can happen."""
        return self._eventful.keys()

    def is_on(self, client: int) -> bool:
        return client not in self._eventful or self._eventful[client].on

    def off_s(self) -> dict[int, float]:
        """Return for how long boards have been off, all in all, of those to which anything can happen."""
        return {client: life.off_s() for client, life in self._eventful.items()}

    def empty(self) -> tuple[int, ...]:
        """Return the clients that have used up their energy."""
        return tuple(client for client, life in self._eventful.items() if life.empty)

    def start(self, errand: Errand, on_end: OnEnd) -> None:
        """Send an errand out now; ``on_end`` runs when it has ended, one way or another."""
        if errand.client in self._trips:
            self._stop(self._trips[errand.client])
        trip = _Trip(errand=errand, sent_s=self._timeline.now_s)
        self._trips[errand.client], self._on_end[errand.client] = trip, on_end
        self._await_dropout(trip)
        self._enter(trip)

    def attach(self, client: int, on_end: OnEnd) -> None:
        """Say what follows the end of a restored errand."""
        self._on_end[client] = on_end

    def state(self) -> dict[str, Any]:
        """Return what ``restore`` needs, as JSON values."""
        return {
            "lives": {str(client): life.state() for client, life in self._eventful.items()},
            "trips": [asdict(replace(trip, tickets={})) for trip in self._trips.values()],
            "shared": {str(phase): link.state() for phase, link in self._shared.items()},
        }

    def restore(self, state: dict[str, Any], on_end: OnEnd) -> None:
        """Go on from ``state``, which was taken at the present time, instead of ``begin``.

        ``on_end`` runs at the end of errands that nobody attaches to: the server has given them up.
        """
        for client, life in state["lives"].items():
            self._eventful[int(client)].restore(life)
        for saved in state["trips"]:
            errand = saved["errand"]
            trip = _Trip(**{**saved, "errand": Errand(**{**errand, "cost": Cost(**errand["cost"])})})
            self._trips[trip.errand.client], self._on_end[trip.errand.client] = trip, on_end
            self._await_dropout(trip)
            self._await_due(trip)
        for phase, link in self._shared.items():
            link.restore(**state["shared"][str(phase)])

    def _enter(self, trip: _Trip) -> None:
        """Begin the trip's phase."""
        errand, life = trip.errand, self._life(trip.errand.client)
        trip.began_s = self._timeline.now_s
        if trip.phase == COMPUTE:
            span_s = life.compute(errand.cost.compute_s, life.board.at(trip.sent_s).profile.load_w)
        elif trip.phase in self._shared:
            span_s = life.board.link.latency_s
        else:
            span_s = errand.cost.download_s if trip.phase == DOWNLOAD else errand.cost.upload_s
        trip.due_s = trip.sent_s + (trip.elapsed_s + span_s)
        trip.spans_s.append(span_s)
        self._await_due(trip)

    def _await_due(self, trip: _Trip) -> None:
        if trip.due_s is not None:
            due = self._join if trip.phase in self._shared else self._advance
            trip.tickets["due"] = self._timeline.at(max(trip.due_s, self._timeline.now_s), lambda: due(trip))

    def _await_dropout(self, trip: _Trip) -> None:
        if trip.errand.drops_s is not None:
            drops_s = max(trip.sent_s + trip.errand.drops_s, self._timeline.now_s)
            trip.tickets["dropout"] = self._timeline.at(drops_s, lambda: self._lose(trip.errand.client, "dropout"))

    def _join(self, trip: _Trip) -> None:
        """The latency is over: share the server's link."""
        trip.due_s, errand = None, trip.errand
        payload_bytes = errand.bytes_down if trip.phase == DOWNLOAD else errand.bytes_up
        self._shared[trip.phase].join(errand.client, payload_bytes)

    def _advance(self, trip: _Trip) -> None:
        """The trip's phase is over: enter the next one, or end."""
        life, now_s = self._life(trip.errand.client), self._timeline.now_s
        if not life.on:  # it goes off at this very moment
            self._lose(trip.errand.client, "off")
            return
        if trip.phase in self._shared:
            trip.spans_s[-1], trip.elapsed_s = now_s - trip.began_s, now_s - trip.sent_s
        else:
            trip.elapsed_s += trip.spans_s[-1]
        if trip.phase == COMPUTE:
            life.rest()
        if trip.phase < UPLOAD:
            trip.phase += 1
            if trip.phase == COMPUTE and not trip.errand.fits:
                self._lose(trip.errand.client, "memory")
            else:
                self._enter(trip)
        else:
            self._forget(trip)
            self._tell(trip, trip.errand.bytes_down, trip.errand.bytes_up, lost=None)

    def _down(self, client: int, why: str) -> None:
        self._on_turn(client, False)
        self._lose(client, why)

    def _lose(self, client: int, why: str) -> None:
        """End the trip of ``client``, if it has one, where it stands."""
        trip = self._trips.get(client)
        if trip is None:
            return
        bytes_down, bytes_up = self._stop(trip)
        trip.spans_s[-1] = self._timeline.now_s - trip.began_s
        self._tell(trip, bytes_down, bytes_up, lost=why)

    def _stop(self, trip: _Trip) -> tuple[int, int]:
        """Take the trip off the road; return the bytes that it moved down and up."""
        errand = trip.errand
        self._life(errand.client).rest()
        moved = errand.bytes_down, 0
        if trip.phase == DOWNLOAD:
            moved = self._moved(trip, errand.bytes_down), 0
        elif trip.phase == UPLOAD:
            moved = errand.bytes_down, self._moved(trip, errand.bytes_up)
        self._forget(trip)
        return moved

    def _forget(self, trip: _Trip) -> None:
        del self._trips[trip.errand.client]
        if trip.errand.client not in self._eventful:
            self._lives.pop(trip.errand.client, None)
        for ticket in trip.tickets.values():
            self._timeline.cancel(ticket)

    def _moved(self, trip: _Trip, payload_bytes: int) -> int:
        """Return how much of a transfer that stops now is through."""
        link, moving_s = self._boards[trip.errand.client].link, self._timeline.now_s - trip.began_s
        if trip.phase in self._shared:
            left = payload_bytes if trip.due_s is not None else self._shared[trip.phase].leave(trip.errand.client)
            return int(payload_bytes - left)
        rate = link.downlink_bytes_per_s if trip.phase == DOWNLOAD else link.uplink_bytes_per_s
        return int(min(payload_bytes, max(0.0, moving_s - link.latency_s) * rate))

    def _tell(self, trip: _Trip, bytes_down: int, bytes_up: int, *, lost: str | None) -> None:
        client = trip.errand.client
        download_s, compute_s, upload_s = [*trip.spans_s, 0.0, 0.0][:3]
        board = self._boards[client].at(trip.sent_s)  # a task runs in the mode that it found
        energy_j = task_j(board, compute_s=compute_s, transfer_s=download_s + upload_s)
        cost = Cost(download_s=download_s, compute_s=compute_s, upload_s=upload_s, energy_j=energy_j)
        self._on_end.pop(client)(End(cost=cost, bytes_down=bytes_down, bytes_up=bytes_up, lost=lost))


def _eventful(boards: Sequence[Board]) -> list[int]:
    """Return the clients to whose boards anything can happen; all boards of a kind are alike in that."""
    if isinstance(boards, Boards):
        return [int(client) for client in np.flatnonzero(boards.of_kinds(eventful))]
    return [board.client for board in boards if eventful(board)]
