"""The rows that open a run: what it is, and who takes part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cosp.config import Config
from cosp.fleet.introduction import Introduction
from cosp.methods import Method
from cosp.server.rows import client_row
from cosp.submodel.footprint import footprint
from cosp.submodel.shape import TransformerShape

Row = dict[str, Any]


def opening_rows(
    config: Config,
    shape: TransformerShape,
    classes: tuple[str, ...],
    method: Method,
    clients: Sequence[Introduction],
    *,
    boards: int,
    claimed: Mapping[int, Row],
    planned: Mapping[int, Row],
    dry: bool = False,
) -> Iterator[Row]:
    """Yield the row of the run and one row a client. ``exits``: those that the method's result has;
    ``training_bytes``: what plain training of the whole model holds; ``claimed``, ``planned``: see ``client_row``. Of
    the ``boards`` of the fleet some may be missing.
    """
    whole = footprint(shape, (shape.sizes,) * shape.blocks)
    run = {
        "kind": "run",
        "name": config.name,
        "variant": config.variant,
        "method": method.name,
        "seed": config.seed,
        "clients": boards,
        "blocks": shape.blocks,
        "exits": list(shape.exits_within(method.model.evaluated.depth)),
        "classes": list(classes),
        "parameters": whole.parameters,
        "training_bytes": whole.training_bytes(config.training.batch_size, config.training.optimizer),
        "quorum": method.merging.quorum or config.server.quorum,
        "versions": config.server.versions,
        "until_s": config.server.until_s,
    } | ({"dry": True} if dry else {})
    yield run
    yield from (client_row(client, claimed.get(client.client, {}), planned.get(client.client)) for client in clients)
