"""What is believed of what a board claims: no more than the fleet file, or the middle of all boards, admits.

Samples are the weight of a board's updates, joules and seconds what a run is said to have cost, a declared speed how
large a plan it is given. Whoever claims more is counted with what is admitted, and the row holds the claim as well.

A plan's size is the fleet file's to say, as ``cosp plan`` shows it: a board's own limits can only lower it, and its row
says so then.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cosp.fleet.attackers import lies
from cosp.fleet.board import Board
from cosp.fleet.boards import one_of_each
from cosp.fleet.introduction import Budget, Introduction
from cosp.fleet.links import Link
from cosp.fleet.profiles import DeviceProfile
from cosp.fleet.speed import Speed

Row = dict[str, Any]

MOST_OF_MIDDLE = 2.0
"""Times the median board's samples that one whose fleet entry names none is counted with: two in ten of those that
claim without end still weigh half of what the others do.
"""
MOST_OF_WATTS = 2.0
"""Times the watts under load of its device file that a board may say it drew: files are of modes, boards may differ."""


@dataclass(frozen=True, kw_only=True)
class Admitted:
    """An introduction as it counts; what it claimed where that was more; ``planned``: what the fleet file plans with
    where the board's own limit is lower.
    """

    introduction: Introduction
    claimed: Row
    planned: Row


class Admission:
    """Of the boards of a fleet, clients 0, 1, ...; ``simulated`` ones say what they are simulated with, so that only
    what the fleet file admits by number binds them, and if some lie of their samples, what all claim.
    """

    def __init__(self, boards: Sequence[Board], *, simulated: bool) -> None:
        self._boards = boards
        self._simulated = simulated
        self._median_samples = math.inf

    def meet(self, introductions: Iterable[Introduction]) -> None:
        """Take note of what all boards claim, so that one of them can be held against the others."""
        claims = [one.samples / self._boards[one.client].shares for one in introductions]
        if claims and (not self._simulated or any(map(lies, one_of_each(self._boards)))):
            self._median_samples = statistics.median_low(claims)  # of two, the other must not decide

    def admit(self, told: Introduction) -> Admitted:
        """Return ``told`` as far as it is believed."""
        counted = replace(told, samples=self._samples(told))
        if not self._simulated:
            counted = replace(counted, idle_w=min(told.idle_w, self._watts(told.client)))
            counted = counted.with_budget(self.budget(told.client, told.budget))
        return Admitted(
            introduction=counted,
            claimed={name: getattr(told, name) for name in ("samples", "idle_w", "keep") if _more(told, counted, name)},
            planned={} if self._simulated else self._planned(counted),
        )

    def budget(self, client: int, budget: Budget) -> Budget:
        """Return ``budget`` with no more than the fleet's board keeps and holds, and no speed that it has in none of
        its modes.
        """
        if self._simulated:
            return budget
        keep, memory_bytes = self._plan(client)
        budget = replace(budget, keep=_least(budget.keep, keep), memory_bytes=min(budget.memory_bytes, memory_bytes))
        if budget.speed is None:
            return budget
        board = self._boards[client]
        profiles = (board.profile, *(change.profile for change in board.changes))
        return replace(budget, speed=_no_faster(budget.speed, profiles, board))

    def _plan(self, client: int) -> tuple[float | None, int]:
        """Return which share of the model and how much memory the fleet file plans with."""
        board = self._boards[client]
        return board.keep, board.profile.memory_bytes

    def _planned(self, counted: Introduction) -> Row:
        keep, memory_bytes = self._plan(counted.client)
        lower = {"keep": keep} if keep != counted.keep else {}
        return lower | ({"memory_bytes": memory_bytes} if counted.memory_bytes < memory_bytes else {})

    def figures(self, figures: Mapping[str, float]) -> Mapping[str, float]:
        """Return what a lost task took as far as it is believed: a grid that simulates it knows, a board does not."""
        return figures if self._simulated else {}

    def row(self, row: Row) -> Row:
        """Return an arrival's row with what is believed, and with what was claimed under ``claimed`` if that was more.

        ``samples`` of a row are counted by the coordinator, which knows what was admitted.
        """
        if self._simulated:
            return row
        elapsed_s = max(0.0, row["arrived_s"] - row["sent_s"])
        most = {"energy_j": self._watts(row["client"]) * elapsed_s}
        most |= dict.fromkeys(("download_s", "compute_s", "upload_s", "wall_step_s"), elapsed_s)
        over = {key: row[key] for key, limit in most.items() if (row.get(key) or 0.0) > limit}
        if not over:
            return row
        believed = {key: most[key] for key in over}
        return {**row, **believed, "claimed": {**row.get("claimed", {}), **over}}

    def _samples(self, told: Introduction) -> int:
        board = self._boards[told.client]
        if board.samples is not None:
            return min(told.samples, board.samples)
        most = MOST_OF_MIDDLE * board.shares * self._median_samples
        return told.samples if told.samples <= most else max(1, int(most))

    def _watts(self, client: int) -> float:
        board = self._boards[client]
        return MOST_OF_WATTS * max(profile.load_w for profile in (board.profile, *(c.profile for c in board.changes)))


def _more(told: Introduction, counted: Introduction, name: str) -> bool:
    claim, admitted = getattr(told, name), getattr(counted, name)
    return claim is not None and bool(claim > admitted)


def _least(own: float | None, planned: float | None) -> float | None:
    """Return the lower share of the model; None, as much as the memory holds, is no limit."""
    return min((keep for keep in (own, planned) if keep is not None), default=None)


def _no_faster(claimed: Speed, profiles: Sequence[DeviceProfile], board: Board) -> Speed:
    """Return ``claimed``, each figure of it no better than the best of ``profiles`` and the fleet's link."""
    half = [profile.half_flops_per_s for profile in profiles if profile.half_flops_per_s is not None]
    return replace(
        claimed,
        flops_per_s=min(claimed.flops_per_s, max(profile.flops_per_s for profile in profiles)),
        half_flops_per_s=min(claimed.half_flops_per_s, max(half)) if claimed.half_flops_per_s and half else None,
        half_batch=max(claimed.half_batch, min(profile.half_batch for profile in profiles)),
        memory_bytes_per_s=min(claimed.memory_bytes_per_s, max(profile.memory_bytes_per_s for profile in profiles)),
        launch_s=max(claimed.launch_s, min(profile.launch_s for profile in profiles)),
        overlap=claimed.overlap and any(profile.overlap for profile in profiles),
        slowdown=max(claimed.slowdown, board.slowdown),
        link=_no_quicker(claimed.link, board.link),
    )


def _no_quicker(claimed: Link, known: Link) -> Link:
    return replace(
        claimed,
        downlink_bytes_per_s=min(claimed.downlink_bytes_per_s, known.downlink_bytes_per_s),
        uplink_bytes_per_s=min(claimed.uplink_bytes_per_s, known.uplink_bytes_per_s),
        latency_s=max(claimed.latency_s, known.latency_s),
    )
