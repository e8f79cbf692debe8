"""torch.export: a ``.pt2`` that torch alone loads and runs, without cosp."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cosp.checkpoints.own import Facts
from cosp.errors import UserError
from cosp.export.chosen import Chosen
from cosp.export.onnx import program

FILE = "model.pt2"
KEY = "cosp.json"
"""Of the file's extra files."""


def write(chosen: Chosen, facts: Facts, folder: Path, *, batch: int | None, sample: Tensor) -> str:
    """Write ``model.pt2`` and return what its inputs and outputs are; see :func:`cosp.export.onnx.write`."""
    made = program(chosen, batch=batch, sample=sample)
    torch.export.save(made, folder / FILE, extra_files={KEY: json.dumps(facts.as_json())})
    size = "batch" if batch is None else str(batch)
    kind = "int64" if chosen.facts.reading.kind == "texts" else "float32"
    inputs = ", ".join((size, *map(str, chosen.facts.shape.sample_shape)))
    return (
        f"input {kind} ({inputs}); outputs, shallow to deep, {', '.join(chosen.output_names)} float32 "
        f"({size}, {len(chosen.facts.classes)}), logits"
    )


def load(path: Path) -> tuple[Any, Facts]:
    """Return the module, and what the file says of itself; UserError if it cannot be read."""
    extra = {KEY: ""}
    try:
        found = torch.export.load(path, extra_files=extra).module()
    except Exception as error:  # a damaged file makes its reader raise anything
        raise UserError(f"{path}: cannot be read ({str(error).splitlines()[0][:200]})") from None
    if not extra[KEY]:
        raise UserError(f"{path}: says nothing of classes and inputs: it is no export of cosp's")
    return found, Facts.from_json(json.loads(extra[KEY]), origin=str(path))


def run(module: Any, x: NDArray[Any], *, texts: bool) -> list[NDArray[np.float32]]:
    """Return what torch's own graph answers; one made for batches of one size is asked so."""
    given = next(node for node in module.graph.nodes if node.op == "placeholder" and node.name == "samples")
    size = given.meta["val"].shape[0]
    size = size if isinstance(size, int) else len(x)
    x = x.astype(np.int64) if texts else x
    parts = []
    for i in range(0, len(x), size):
        part = np.resize(x[i : i + size], (size, *x.shape[1:]))
        with torch.no_grad():
            parts.append(module(torch.from_numpy(part)))
    return [torch.cat(list(outputs)).numpy()[: len(x)] for outputs in zip(*parts, strict=True)]
