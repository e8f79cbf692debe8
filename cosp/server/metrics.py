"""What ``metrics.json`` holds."""

from __future__ import annotations

from typing import Any

from cosp.server.loop import Loop

Row = dict[str, Any]


def metrics(loop: Loop, *, wall_time_s: float) -> Row:
    """Return what ``metrics.json`` holds."""
    ledger = loop.ledger
    return {
        "final": ledger.final,
        "best": ledger.best,
        "rounds": loop.coordinator.version,
        "virtual_time_s": loop.now_s(),
        "wall_time_s": wall_time_s,
        "utilisation": loop.utilisation(),
        "bytes_up": ledger.bytes_up,
        "bytes_down": ledger.bytes_down,
        "energy_j": loop.energy_j(),
        "peak_memory_bytes": ledger.peak_memory_bytes,
        "staleness": ledger.staleness,
        "refused": ledger.refused,
        "empty_batteries": getattr(loop.grid, "empty_batteries", list)(),
        "sitting_out": list(loop.coordinator.sitting_out),
        "ended_early": loop.ended_early,
    }
