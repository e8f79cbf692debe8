"""A grid's time: virtual where the grid brings a clock of its own (``clock``, ``idle``, ``off_s``), else the wall's."""

from __future__ import annotations

import time
from typing import Any

from flwr.serverapp import Grid

POLL_S = 0.2


class Clock:
    """Seconds since the run began, on the clock of ``grid``; ``began_s``: what the wall's showed when it broke off."""

    def __init__(self, grid: Grid, began_s: float = 0.0) -> None:
        self._grid: Any = grid
        self.virtual = hasattr(grid, "idle")
        """Whether the grid itself knows when nothing will ever happen again."""
        self._started = time.monotonic() - began_s

    def now_s(self) -> float:
        return float(self._grid.clock()) if hasattr(self._grid, "clock") else time.monotonic() - self._started

    def idle(self, at_most_s: float) -> None:
        """Let time go by until something may have happened."""
        if self.virtual:
            self._grid.idle(at_most_s)
        else:
            time.sleep(min(POLL_S, max(0.0, at_most_s)))

    def off_s(self) -> dict[int, float]:
        """Return for how long boards were off, as far as the grid knows."""
        found: dict[int, float] = getattr(self._grid, "off_s", dict)()
        return found
