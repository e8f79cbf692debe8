"""The loop after deployment in virtual time: boards answer, send up what they chose, get what changed, or go back.

Each window a board answers what comes to it and then sends its report and the samples that it chose; the server adapts
when it has enough of them and sends a set that is worth it to each board as that has nothing else to do. What boards
answer is computed by a pool; all that has a state happens here, in the order of virtual time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from cosp.adaptation import upward
from cosp.adaptation.acknowledged import Acknowledged
from cosp.adaptation.download import Held, received
from cosp.adaptation.kept import Keep, Take, kept_array
from cosp.fleet.cost import cost, jitter
from cosp.fleet.fleet import Fleet
from cosp.fleet.live import End, Errand, LiveFleet
from cosp.fleet.timeline import Timeline
from cosp.methods.pricing import drops, serving_work
from cosp.seeds import numpy_stream
from cosp.stream.answering import Asked, Asks
from cosp.stream.rows import Row, download_row, window_row
from cosp.stream.samples import Stream
from cosp.stream.seat import Seat
from cosp.stream.server import Server
from cosp.stream.uploads import Uploads
from cosp.task.demand import peak_memory_bytes
from cosp.task.task import Task

MOVES = ("set", "kept", "rollback", "clusters")
"""Rows after which boards may be to have another set."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Of a stream. ``oracle``: samples that are sent get their labels, from somebody who looks at them."""

    seed: int
    until_s: float
    window_s: float
    sigma: float
    oracle: bool = False


@dataclass(frozen=True, kw_only=True)
class Parcel:
    """What is on its way from or to a board: a report, or a set. ``oracle``: the labels of a report's samples, where
    somebody gives them.
    """

    kind: Literal["report", "set"]
    message: bytes
    row: Row
    oracle: NDArray[np.int64] | None = None

    def state(self, keep: Keep) -> Row:
        """Return it as JSON values."""
        message = keep(np.frombuffer(self.message, np.uint8))
        return {"kind": self.kind, "message": message, "row": self.row, "oracle": kept_array(self.oracle, keep)}

    @staticmethod
    def of_state(state: Row, take: Take) -> Parcel:
        """Undo ``state``."""
        oracle = None if state["oracle"] is None else take(state["oracle"])
        return Parcel(kind=state["kind"], message=take(state["message"]).tobytes(), row=state["row"], oracle=oracle)


class Loop:
    """Boards ``seats`` of ``fleet`` serve ``stream``. ``known``: what the server knows each to have, by client.

    ``on_window`` is called as a window has ended and boards were asked: then the loop's ``state`` is all there is.
    """

    def __init__(
        self,
        seats: Mapping[int, Seat],
        fleet: Fleet,
        stream: Stream,
        *,
        rules: Rules,
        asks: Asks,
        uploads: Uploads,
        server: Server,
        known: Mapping[int, Acknowledged],
        on_row: Callable[[Row], None],
        on_window: Callable[[Loop], None] = lambda loop: None,
    ) -> None:
        self._seats, self._stream, self._rules = dict(sorted(seats.items())), stream, rules
        self._asks, self._uploads, self._server, self._known = asks, uploads, server, known
        self._on_row, self._on_window = on_row, on_window
        self._timeline = Timeline()
        self._live = LiveFleet(fleet.boards, self._timeline, server=fleet.server, on_turn=self._turned)
        self._window = 0
        self._under_way: dict[int, Parcel] = {}
        """By client."""

    def run(self) -> None:
        """Go through the stream to its end, from its beginning or from where ``restore`` put it, and until what was
        under way then has arrived.
        """
        if not self._window:
            self._live.begin()
            for seat in self._seats.values():
                if not self._live.is_on(seat.client):
                    seat.turned(0.0, False)
            self._timeline.at(self._rules.window_s, self._tick)
        while self._more and self._timeline.step():
            pass

    def state(self, keep: Keep) -> Row:
        """Return where boards and messages are, as JSON values."""
        return {
            "now_s": self.now_s,
            "window": self._window,
            "fleet": self._live.state(),
            "seats": {str(seat.client): seat.state(keep) for seat in self._seats.values()},
            "under_way": {str(client): parcel.state(keep) for client, parcel in self._under_way.items()},
        }

    def restore(self, state: Row, take: Take) -> None:
        """Undo ``state``, in a loop that has not run."""
        self._timeline.at(state["now_s"], lambda: None)
        self._timeline.step()
        self._window = state["window"]
        for client, seat in state["seats"].items():
            self._seats[int(client)].restore(seat, take)
        self._live.restore(state["fleet"], lambda end: None)
        for client, saved in state["under_way"].items():
            seat, parcel = self._seats[int(client)], Parcel.of_state(saved, take)
            self._under_way[seat.client] = parcel
            self._live.attach(seat.client, partial(self._came, seat, parcel))
        self._next_tick()

    @property
    def now_s(self) -> float:
        return self._timeline.now_s

    @property
    def window(self) -> int:
        """How many windows have ended."""
        return self._window

    @property
    def _ended(self) -> bool:
        """Whether the last window is over."""
        return self._window * self._rules.window_s >= self._rules.until_s

    @property
    def _more(self) -> bool:
        """Whether anything is to come: a board that is off may stay so for ever."""
        return not self._ended or any(seat.busy for seat in self._seats.values())

    def _tick(self) -> None:
        """A window ends for all boards: ask those that are there and idle."""
        self._window += 1
        for seat in self._seats.values():
            seat.asked, seat.window = True, self._window
        free = [seat for seat in self._seats.values() if self._free(seat)]
        for seat, asked in [(seat, self._ask(seat)) for seat in free]:  # all are asked before one answer is awaited
            self._report(seat, asked)
        self._next_tick()
        self._on_window(self)

    def _next_tick(self) -> None:
        if not self._ended:
            self._timeline.at(min((self._window + 1) * self._rules.window_s, self._rules.until_s), self._tick)

    def _free(self, seat: Seat) -> bool:
        return not seat.busy and self._live.is_on(seat.client)

    def _turned(self, client: int, on: bool) -> None:
        """A board has come on or gone off."""
        if client in self._seats:
            self._seats[client].turned(self.now_s, on)
            if on:
                self._turn(self._seats[client])

    def _turn(self, seat: Seat) -> None:
        """Have a board do what is next, if it is there and idle: report a window, or take a set."""
        if not self._free(seat):
            return
        if seat.asked:
            self._report(seat, self._ask(seat))
        elif not self._ended:
            self._send(seat)

    def _ask(self, seat: Seat) -> Asked:
        seat.asked = False
        return self._asks.ask(seat, self.now_s)

    def _report(self, seat: Seat, asked: Asked) -> None:
        """Have a board send its report of a window."""
        answers = asked.answers()
        if answers is None:
            self._turn(seat)
            return
        labels = self._stream.samples.y[answers.rows]
        choice, payload = self._uploads.chosen(seat, answers, self._stream.samples.x)
        report = upward.report_of(answers, asked.version, payload)
        message = upward.to_bytes(report)
        task = asked.task()
        row = window_row(seat, asked, answers, labels, choice=choice, shift=self._shift(seat))
        oracle = self._stream.samples.y[choice.rows] if self._rules.oracle else None
        parcel = Parcel(kind="report", message=message, row=row, oracle=oracle)
        self._start(seat, task, parcel, bytes_down=0, bytes_up=len(message))

    def _shift(self, seat: Seat) -> Any:
        return seat.coming.shift_at(np.nextafter(self.now_s, 0.0))

    def _came(self, seat: Seat, parcel: Parcel, end: End) -> None:
        """What was under way has arrived, or was lost."""
        del self._under_way[seat.client]
        self._on_row({**parcel.row, **figures(end, self.now_s)})
        seat.busy = False
        if parcel.kind == "report":
            self._reported(seat, parcel, end)
        else:
            self._arrived(seat, parcel, end)

    def _reported(self, seat: Seat, parcel: Parcel, end: End) -> None:
        found = self._taken(seat, parcel) if end.lost is None else []
        for row in found:
            self._on_row({**row, "virtual_s": self.now_s})
        self._turn(seat)
        if any(row["kind"] in MOVES for row in found):  # else the others have what they are to have, or are busy
            for other in self._waiting(seat):
                self._turn(other)

    def _taken(self, seat: Seat, parcel: Parcel) -> list[Row]:
        """Have the server take a report; return the rows of what follows."""
        report, oracle = upward.from_bytes(parcel.message, self._server.classes), parcel.oracle
        batches = [
            part.batch if oracle is None else part.batch._replace(y=torch.from_numpy(oracle[part.rows]))
            for part in self._uploads.read(report.payload)
        ]
        return self._server.take(seat.client, report, batches)

    def _waiting(self, but: Seat) -> Iterable[Seat]:
        """Return the other boards that may be sent something now."""
        return [seat for seat in self._seats.values() if seat is not but and self._free(seat)]

    def _send(self, seat: Seat) -> None:
        """Send a board what changed, if that is worth it."""
        target = self._server.target(seat.client)
        if target.version in (seat.version, seat.offered):
            return
        seat.offered = target.version
        known = self._known[seat.client]
        base = known.held.get(seat.client)
        weights = target.weights(seat.plan).numpy()
        link_bytes = seat.board.at(self.now_s).link.downlink_bytes_per_s * self._rules.window_s
        sent = known.next_message(seat.client, target.version, weights, link_bytes=link_bytes)
        if sent is None:
            return
        row = download_row(seat.client, target, base=None if base is None else base.version, message=sent.message)
        task = self._asks.nothing(seat)
        parcel = Parcel(kind="set", message=sent.message, row=row)
        self._start(seat, task, parcel, bytes_down=len(sent.message), bytes_up=0)

    def _arrived(self, seat: Seat, parcel: Parcel, end: End) -> None:
        """If a set was lost on the way nobody knows what the board has."""
        known = self._known[seat.client]
        if end.lost is None:
            held = Held(seat.version, seat.answering[-1].weights.numpy())
            after = received(parcel.message, held, known.form)
            seat.take(self.now_s, after.version, torch.from_numpy(after.weights))
            known.acknowledge(seat.client, after.version)
        else:
            known.forget(seat.client)
            seat.offered = seat.version
        self._turn(seat)

    def _start(self, seat: Seat, task: Task, parcel: Parcel, *, bytes_down: int, bytes_up: int) -> None:
        board = seat.board.at(self.now_s)
        seat.busy, seat.turn = True, seat.turn + 1
        rng = numpy_stream(task.seed, "jitter", task.client, task.version, task.turn, task.kind)
        found = cost(
            board, serving_work(task, bytes_down=bytes_down, bytes_up=bytes_up), jitter(rng, self._rules.sigma)
        )
        share = drops(task, board)
        errand = Errand(
            client=seat.client,
            cost=found,
            bytes_down=bytes_down,
            bytes_up=bytes_up,
            drops_s=None if share is None else share * found.total_s,
            fits=peak_memory_bytes(task) <= board.profile.memory_bytes,
        )
        self._under_way[seat.client] = parcel
        self._live.start(errand, partial(self._came, seat, parcel))


def figures(end: End, now_s: float) -> Row:
    """Return what a row says of how an errand ended."""
    return {
        **vars(end.cost),
        "bytes_down": end.bytes_down,
        "bytes_up": end.bytes_up,
        "lost": end.lost,
        "virtual_s": now_s,
    }
