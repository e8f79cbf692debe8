"""What Flower itself takes of a task on real boards, beside what the cost model says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cosp.console import seconds

Row = dict[str, Any]

FLOWER_S = 4.8
"""Seconds of a task that are neither computing nor bytes on a link: the SuperNode's polls, Flower's own work.

The median of seven that ``benchmarks/task_overhead.py`` found on a PC of two cores that had little else to do.
"""


def flower_line(rows: Sequence[Row]) -> str:
    """Return a sentence on the shares of the longest and the shortest task in ``rows`` of ``plan_rows``."""
    shares = sorted(FLOWER_S / (FLOWER_S + row["task_s"]) for row in rows)
    low, high = f"{shares[0]:.0%}", f"{shares[-1]:.0%}"
    of = f"{low} of each" if low == high else f"{low} of the longest task, {high} of the shortest"
    rule = "; more training.epochs make tasks longer and that share smaller" if shares[-1] > 0.5 else ""
    return f"on real boards Flower adds about {seconds(FLOWER_S)} a task, as measured on a PC: {of}{rule}"
