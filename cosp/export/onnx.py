"""ONNX: a graph for onnxruntime and others, physically as narrow as the submodel."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cosp.checkpoints.own import Facts
from cosp.errors import UserError
from cosp.export.chosen import Chosen, Logits

FILE = "model.onnx"
OPSET = 18
KEY = "cosp"
"""Of the graph's metadata: there stands what ``cosp.json`` says."""
ADVICE = "pip install 'cosp[onnx]'"


def write(chosen: Chosen, facts: Facts, folder: Path, *, batch: int | None, sample: Tensor) -> str:
    """Write ``model.onnx`` and return what its inputs and outputs are; UserError without the extra onnx.

    ``batch`` None leaves it dynamic. ``sample`` is a batch of samples of the right shape and type.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401  what torch's exporter is made of
    except ImportError as error:
        raise UserError(f"--to onnx: needs the package {error.name}: {ADVICE}") from None
    with quiet():
        made: Any = torch.onnx.export(
            program(chosen, batch=batch, sample=sample),
            input_names=[chosen.input_name],
            output_names=chosen.output_names,
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    proto = made.model_proto
    onnx.helper.set_model_props(proto, {KEY: json.dumps(facts.as_json())})
    if batch is None:
        _call_batch(proto)
    onnx.checker.check_model(proto)
    onnx.save(proto, str(folder / FILE))
    size = "batch" if batch is None else str(batch)
    inputs = ", ".join((size, *map(str, chosen.facts.shape.sample_shape)))
    kind = "int64" if chosen.facts.reading.kind == "texts" else "float32"
    return (
        f"opset {OPSET}; input {chosen.input_name} {kind} ({inputs}); outputs {', '.join(chosen.output_names)} float32 "
        f"({size}, {len(chosen.facts.classes)}), logits"
    )


def program(chosen: Chosen, *, batch: int | None, sample: Tensor) -> torch.export.ExportedProgram:
    """Return the model as torch's own graph."""
    dynamic = {"samples": {0: torch.export.Dim("batch")}} if batch is None else None
    example = sample[: batch or len(sample)]
    if len(example) < (batch or 2):
        example = sample[:1].expand(batch or 2, *sample.shape[1:]).clone()
    with quiet():
        return torch.export.export(Logits(chosen.module()), (example,), dynamic_shapes=dynamic)


def session(path: Path) -> Any:
    """Return the graph, ready to run on one thread; UserError if that cannot be."""
    try:
        import onnxruntime  # type: ignore[import-untyped,import-not-found,unused-ignore]
    except ImportError:
        raise UserError(f"{path}: is run by onnxruntime: {ADVICE}") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors are its own
        raise UserError(f"{path}: cannot be run by onnxruntime ({str(error).splitlines()[0][:200]})") from None


def facts_of(found: Any, path: Path) -> Facts:
    """Return what a graph says of itself; UserError if cosp did not write it."""
    text = found.get_modelmeta().custom_metadata_map.get(KEY)
    if text is None:
        raise UserError(f"{path}: says nothing of classes and inputs: it is no export of cosp's")
    return Facts.from_json(json.loads(text), origin=str(path))


def run(found: Any, samples: NDArray[Any]) -> list[NDArray[np.float32]]:
    """Return the logits of every exit."""
    (given,) = found.get_inputs()
    kind = np.int64 if given.type == "tensor(int64)" else np.float32
    size = given.shape[0] if isinstance(given.shape[0], int) else max(1, len(samples))
    parts = [_padded(samples[i : i + size], size).astype(kind) for i in range(0, len(samples), size)]
    results = [found.run(None, {given.name: part}) for part in parts]
    return [np.concatenate(outputs)[: len(samples)] for outputs in zip(*results, strict=True)]


def _padded(samples: NDArray[Any], size: int) -> NDArray[Any]:
    """Return a batch as large as a graph of one size takes."""
    return samples if len(samples) == size else np.resize(samples, (size, *samples.shape[1:]))


def _call_batch(proto: Any) -> None:
    """Call the free dimension of inputs and outputs so."""
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep torch's exporters from talking of themselves: of what else they could export, and of deprecations."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
