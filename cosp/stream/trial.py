"""A new set on trial: boards say how unsure they are with it and were before; is it kept, or taken back?

No label is known. A set that is worse makes boards less sure on average; so does a shift of what they see, which boards
without the set tell apart, if there are some. A set that makes all boards sure of one class passes here: the guards on
the server look for that.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from statistics import fmean
from typing import Any, Literal

Verdict = Literal["good", "worse", "untried"]
PATIENCE = 5
"""So many times the windows of a trial may pass without a verdict: boards that are to try a set may be off for long."""


class Trial:
    """Of the set ``version`` on boards ``watched``; ``before``: mean uncertainty of all boards as it was sent.

    It ends once half of the watched boards have answered for ``windows`` windows with it: worse, if in each of these
    the mean change of their uncertainty was above ``margin`` more than that of the other boards. Where too few come to
    try it, it ends all the same.
    """

    def __init__(
        self, version: int, watched: Iterable[int], before: Mapping[int, float], *, windows: int, margin: float
    ) -> None:
        self.version = version
        self.watched = frozenset(watched)
        self.changes: list[float] = []
        """By window on trial, the mean change of the boards that have it, less that of the others."""
        self._before, self._windows, self._margin = dict(before), windows, margin
        self._with: dict[int, list[float]] = defaultdict(list)
        self._without: dict[int, list[float]] = defaultdict(list)
        self._heard: dict[int, int] = defaultdict(int)

    def report(self, client: int, version: int, uncertainty: float) -> Verdict | None:
        """Take what a board says of a window that it answered with ``version``; return the verdict once there is one.

        A board that had said nothing before cannot be compared.
        """
        self._heard[client] += 1
        if client not in self._before:
            self._before[client] = uncertainty
        elif client not in self.watched:
            self._without[client].append(uncertainty - self._before[client])
        elif version == self.version:
            self._with[client].append(uncertainty - self._before[client])
            done = sum(len(found) >= self._windows for found in self._with.values())
            if 2 * done >= len(self.watched):
                return self._verdict()
        return "untried" if self._heard[client] > PATIENCE * self._windows else None

    def state(self) -> dict[str, Any]:
        """Return what it has heard, as JSON values."""
        told: dict[str, Mapping[int, Any]] = {
            "before": self._before,
            "with": self._with,
            "without": self._without,
            "heard": self._heard,
        }
        return {
            "version": self.version,
            "watched": sorted(self.watched),
            **{name: {str(client): value for client, value in known.items()} for name, known in told.items()},
        }

    @staticmethod
    def of_state(state: Mapping[str, Any], *, windows: int, margin: float) -> Trial:
        """Undo ``state``."""
        told = {
            name: {int(client): value for client, value in state[name].items()}
            for name in ("before", "with", "without", "heard")
        }
        trial = Trial(state["version"], state["watched"], told["before"], windows=windows, margin=margin)
        trial._with.update(told["with"])
        trial._without.update(told["without"])
        trial._heard.update(told["heard"])
        return trial

    def _verdict(self) -> Verdict:
        elsewhere = [change for found in self._without.values() for change in found]
        shift = fmean(elsewhere) if elsewhere else 0.0
        self.changes = [
            fmean(found[i] for found in self._with.values() if len(found) > i) - shift for i in range(self._windows)
        ]
        return "worse" if min(self.changes) > self._margin else "good"
