"""The rows that open a run and the metrics that close it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from cosp.config import Config
from cosp.methods import Method
from cosp.models.vit import ViTShape, vit_layout
from cosp.server.clients import Introduction
from cosp.server.loop import Loop
from cosp.submodel.layout import parameter_count

Row = dict[str, Any]


def opening_rows(
    config: Config, shape: ViTShape, classes: tuple[str, ...], method: Method, clients: tuple[Introduction, ...]
) -> list[Row]:
    """Return the row of the run (``exits``: those that the method's result has) and one row a client."""
    run = {
        "kind": "run",
        "name": config.name,
        "variant": config.variant,
        "method": method.name,
        "seed": config.seed,
        "clients": len(clients),
        "blocks": shape.blocks,
        "exits": list(shape.exits_within(method.evaluated.depth)),
        "classes": list(classes),
        "parameters": parameter_count(vit_layout(shape), (shape.sizes,) * shape.blocks),
        "quorum": config.server.quorum,
        "versions": config.server.versions,
    }
    return [run, *({"kind": "client", **asdict(client)} for client in clients)]


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
    }
