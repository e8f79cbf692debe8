"""torch alone, without cosp: a ``.pt2`` of torch.export, and the same as TorchScript for libtorch and older torch."""

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
from cosp.export.chosen import Chosen, Logits
from cosp.export.onnx import program, quiet

FILE, SCRIPT = "model.pt2", "model.ts.pt"
BATCH = 32
KEY = "cosp.json"
"""Of the files' extra files."""


def write(chosen: Chosen, facts: Facts, folder: Path, *, batch: int | None, sample: Tensor) -> str:
    """Write both files and return what their inputs and outputs are; see :func:`cosp.export.onnx.write`.

    The batch of the TorchScript is always dynamic.
    """
    made = program(chosen, batch=batch, sample=sample)
    extra = {KEY: json.dumps(facts.as_json())}
    torch.export.save(made, folder / FILE, extra_files=extra)
    with quiet():
        script = torch.jit.trace(Logits(chosen.module()), (sample.clone(),))  # type: ignore[no-untyped-call]
        script.save(str(folder / SCRIPT), _extra_files=extra)
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


def run_script(path: Path, x: NDArray[Any], *, texts: bool) -> list[NDArray[np.float32]]:
    """Return what the TorchScript in ``path`` answers."""
    with quiet(), torch.no_grad():
        module = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
        parts = [
            module(torch.from_numpy(x[i : i + BATCH].astype(np.int64 if texts else x.dtype)))
            for i in range(0, len(x), BATCH)
        ]
    return [torch.cat(list(outputs)).numpy() for outputs in zip(*parts, strict=True)]


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
