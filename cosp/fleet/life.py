"""One board through time: on and off, hot and cold, charged and empty."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from cosp.fleet.availability import Window
from cosp.fleet.board import Board
from cosp.fleet.timeline import Timeline

ALWAYS: Window = (0.0, math.inf)

SAVED = ("off_since_s", "past_off_s", "heat_s", "heat_as_of_s", "spent_j", "power_w", "power_as_of_s", "empty",
         "computing_since_s", "load_w")  # fmt: skip
"""What ``state`` holds; the present window follows from the time alone."""


def eventful(board: Board) -> bool:
    """Return whether anything can happen to ``board`` at all."""
    return board.availability is not None or board.throttle is not None or board.battery_j is not None


class Life:
    """``on_up()`` runs when the board comes on, ``on_down(why)`` when it goes off: ``off``, or ``battery`` for good."""

    def __init__(
        self, board: Board, timeline: Timeline, *, on_up: Callable[[], None], on_down: Callable[[str], None]
    ) -> None:
        self.board = board
        self.empty = False
        """Whether the board has used up its energy."""
        self._timeline = timeline
        self._on_up, self._on_down = on_up, on_down
        self._window: Window | None = ALWAYS  # of being on: the present one or the next
        self._turn: int | None = None  # ticket: the board comes on or goes off
        self._forecast: int | None = None  # ticket: its energy ends, if nothing changes
        self.off_since_s: float | None = None
        self.past_off_s = 0.0
        self.heat_s, self.heat_as_of_s = 0.0, 0.0
        self.spent_j, self.power_w, self.power_as_of_s = 0.0, 0.0, 0.0
        self.computing_since_s: float | None = None
        self.load_w = board.profile.load_w  # of the mode that the present work was begun in

    def begin(self) -> None:
        """Start now, cold and charged."""
        self._next_window()
        self._account()

    @property
    def on(self) -> bool:
        return not self.empty and self._window is not None and self._window[0] <= self._timeline.now_s < self._window[1]

    def off_s(self) -> float:
        """Return for how long the board has been off, all in all."""
        return self.past_off_s + (0.0 if self.off_since_s is None else self._timeline.now_s - self.off_since_s)

    def compute(self, cold_s: float, load_w: float) -> float:
        """Begin work that takes a cold board ``cold_s`` at ``load_w``; return how long that is, as hot as it is."""
        now_s, throttle = self._timeline.now_s, self.board.throttle
        self.computing_since_s, self.load_w = now_s, load_w
        self._account()
        if throttle is None:
            return cold_s
        self.heat_s = throttle.cooled(self.heat_s, now_s - self.heat_as_of_s)
        self.heat_as_of_s = now_s
        return throttle.compute_s(cold_s, self.heat_s)

    def rest(self) -> None:
        """Stop computing, done or not."""
        if self.computing_since_s is None:
            return
        now_s, throttle = self._timeline.now_s, self.board.throttle
        if throttle is not None:
            self.heat_s = throttle.warmed(self.heat_s, now_s - self.computing_since_s)
            self.heat_as_of_s = now_s
        self.computing_since_s = None
        self._account()

    def state(self) -> dict[str, Any]:
        """Return what ``restore`` needs, as JSON values."""
        return {name: getattr(self, name) for name in SAVED}

    def restore(self, state: dict[str, Any]) -> None:
        for name in SAVED:
            setattr(self, name, state[name])
        self._next_window()
        self._foresee()

    def _next_window(self) -> None:
        """Look up when the board is on and wait for that to begin or to end."""
        now_s, availability = self._timeline.now_s, self.board.availability
        self._window = ALWAYS if availability is None else availability.window(now_s)
        if not self.on and self.off_since_s is None:
            self.off_since_s = now_s
        if self._window is None or self.empty:
            return
        start_s, end_s = self._window
        if start_s > now_s:
            self._turn = self._timeline.at(start_s, self._come_on)
        elif end_s < math.inf:
            self._turn = self._timeline.at(end_s, self._go_off)

    def _come_on(self) -> None:
        self._turn = None
        self.past_off_s, self.off_since_s = self.off_s(), None
        self._next_window()
        self._account()
        self._on_up()

    def _go_off(self) -> None:
        self._turn = None
        self._down("off")
        self._next_window()

    def _run_empty(self) -> None:
        self._forecast, self.empty = None, True
        if self._turn is not None:
            self._timeline.cancel(self._turn)
        self._down("battery")

    def _down(self, why: str) -> None:
        self.off_since_s = self._timeline.now_s
        self._on_down(why)
        self._account()

    def _account(self) -> None:
        """Book the energy drawn so far; from now on the board draws what its present state draws."""
        if self.board.battery_j is None:
            return
        now_s, profile = self._timeline.now_s, self.board.profile
        self.spent_j += self.power_w * (now_s - self.power_as_of_s)
        self.power_as_of_s = now_s
        self.power_w = 0.0 if not self.on else profile.idle_w if self.computing_since_s is None else self.load_w
        self._foresee()

    def _foresee(self) -> None:
        """Wait for the moment at which the energy ends if nothing changes."""
        if self._forecast is not None:
            self._timeline.cancel(self._forecast)
            self._forecast = None
        if self.board.battery_j is not None and not self.empty and self.power_w:
            ends_s = self.power_as_of_s + max(0.0, self.board.battery_j - self.spent_j) / self.power_w
            self._forecast = self._timeline.at(max(ends_s, self._timeline.now_s), self._run_empty)
