"""What ``metrics.json`` holds."""

from __future__ import annotations

from typing import Any

from cosp.server.coordinator import Coordinator
from cosp.server.loop import Loop

Row = dict[str, Any]


def metrics(loop: Loop, *, wall_time_s: float) -> Row:
    """Return what ``metrics.json`` holds.

    ``best`` is the version that validation data prefer. ``exits``: the blocks after which the exits stand;
    ``chosen_exit`` is a place among them, from 0. ``under_way``: tasks that had not come back when the run ended.
    """
    ledger, coordinator = loop.ledger, loop.coordinator
    return {
        "exits": list(coordinator.shape.exits_within(coordinator.method.model.evaluated.depth)),
        "final": ledger.final,
        "best": ledger.best,
        "rounds": coordinator.version,
        "virtual_time_s": loop.now_s(),
        "wall_time_s": wall_time_s,
        "utilisation": loop.utilisation(),
        "bytes_up": ledger.bytes_up,
        "bytes_down": ledger.bytes_down,
        "energy_j": loop.energy_j(),
        "peak_memory_bytes": ledger.peak_memory_bytes,
        "staleness": ledger.staleness,
        "refused": ledger.refused,
        "under_way": [
            {"client": task.client, "task": task.kind, "sent_s": sent_s} for task, _, sent_s in loop.in_flight.values()
        ],
        "empty_batteries": getattr(loop.grid, "empty_batteries", list)(),
        "sitting_out": list(coordinator.sitting_out),
        "banned": loop.conduct.banned,
        "ended_early": loop.ended_early,
        **_privacy(coordinator),
    }


def _privacy(coordinator: Coordinator) -> Row:
    """Return what updates can have told of their clients' data; nothing where no noise bounds that."""
    settings = coordinator.training.privacy
    if settings is None:
        return {}
    spent = {str(client): coordinator.epsilon(client) for client in coordinator.records.begun()}
    return {"privacy": {"delta": settings.delta, "epsilon": spent}}
