"""When a run's rounds close, when it ends, and who works; apart from the loop, as a plan needs no Flower."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class LoopRules:
    """When rounds close, when the run ends, and who works. ``quorum`` is a share of those in flight (float) or a count.

    A run ends at ``versions``, or at ``until_s`` with the last version that closed by then, whichever comes first.
    With ``evaluate_every_s`` the first version to close at or after each multiple of it is evaluated, in place of every
    ``evaluate_every``-th. Who lies ``ban_after`` times in a row is banned; a run ends when fewer than ``min_clients``
    (None: half of the fleet) are left. No round closes with fewer than ``fewest`` arrivals while others are at work.
    """

    versions: int | None
    until_s: float = math.inf
    quorum: float | int = 0.5
    deadline_s: float | None = None
    concurrency: int | None = None
    task_timeout_s: float | None = None
    evaluate_every: int = 1
    evaluate_every_s: float | None = None
    ban_after: int | None = None
    min_clients: int | None = None
    fewest: int = 1

    def due(self, version: int, closed_s: float, before_s: float) -> bool:
        """Tell whether the version that closed at ``closed_s``, its predecessor at ``before_s``, is evaluated."""
        if version in (0, self.versions):
            return True
        if self.evaluate_every_s is None:
            return version % self.evaluate_every == 0
        return closed_s // self.evaluate_every_s > before_s // self.evaluate_every_s

    def arrivals_wanted(self, in_flight: int) -> int:
        share = isinstance(self.quorum, float)
        wanted = math.ceil(self.quorum * in_flight - 1e-9) if share else int(self.quorum)
        return max(1, min(wanted, in_flight))
