"""Wait for what other processes do: long enough for a busy machine, and no longer than it takes."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE_S = 300.0
EVERY_S = 0.05


def until(true: Callable[[], object], what: str = "it was so", timeout_s: float = PATIENCE_S) -> None:
    """Return as soon as ``true`` says so; an assertion names ``what`` was waited for in vain."""
    ends_s = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < ends_s, f"waited {timeout_s:.0f} s in vain until {what}"
        time.sleep(EVERY_S)
