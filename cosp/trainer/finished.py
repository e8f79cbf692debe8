"""A run's final model, ``RUN/model``, read with torch and numpy alone: what a board answers with."""

from __future__ import annotations

import base64
import json
import struct
from pathlib import Path
from typing import Any, Dict, NamedTuple, Optional, Tuple

import numpy as np
import torch
from torch import Tensor

from cosp.errors import UserError
from cosp.models import shape_from_json
from cosp.models.transformer import Transformer
from cosp.recipe import Recipe
from cosp.submodel.plan import SubmodelPlan
from cosp.submodel.shape import layout_of
from cosp.submodel.slicing import extract

FACTS, WEIGHTS, BOARDS = "cosp.json", "model.safetensors", "boards.json"
FORMAT = 1
_LENGTH = struct.Struct("<Q")
_FLOATS = {"F32": "<f4", "F64": "<f8"}


class Finished(NamedTuple):
    """``module`` holds the plan's tensors alone; ``exits`` stand behind these blocks, and ``chosen`` did best on
    validation data.
    """

    module: Transformer
    recipe: Recipe
    exits: Tuple[int, ...]
    chosen: int


def read_finished(path: Path, board: Optional[int] = None) -> Finished:
    """Return the model of a run's directory or of its ``model/``, or the submodel of client ``board``; UserError if it
    cannot be read.
    """
    folder = path / "model" if (path / "model" / FACTS).is_file() else path
    if not (folder / FACTS).is_file() or not (folder / WEIGHTS).is_file():
        raise UserError(f"{path}: holds no model of a run; copy RUN/model here from where the run ended")
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        if facts["format"] != FORMAT:
            raise ValueError("another format")
        shape = shape_from_json(facts["shape"])
        packed = facts["plan"] if board is None else _plan_of(folder / BOARDS, board)
        plan = shape.full_plan() if packed is None else SubmodelPlan.from_bytes(base64.b64decode(packed), shape.sizes)
        module = Transformer(shape, plan)
        module.load_state_dict(extract(_tensors(folder / WEIGHTS), layout_of(shape), plan))
        exits = tuple(shape.exits_within(plan.depth))
        chosen = facts["chosen_exit"] if facts["chosen_exit"] in exits else exits[-1]
        return Finished(module.requires_grad_(False).eval(), _recipe(facts, shape), exits, chosen)
    except UserError:
        raise
    except Exception as error:  # files from outside: nearly anything may be wrong with them
        raise UserError(f"{folder}: cannot be read as a model of this cosp ({error!r:.200}); copy it anew") from None


def _recipe(facts: Dict[str, Any], shape: Any) -> Recipe:
    reading = facts["reading"]
    scaled = reading["kind"] != "texts"
    return Recipe(
        classes=tuple(facts["classes"]),
        sample_shape=tuple(shape.sample_shape),
        mean=tuple(reading["mean"]) if scaled else None,
        std=tuple(reading["std"]) if scaled else None,
        white=reading["white"],
        vocabulary=getattr(shape, "vocabulary", None),
        data=facts["data"],
    )


def _plan_of(path: Path, board: int) -> str:
    known = {one["client"]: one["plan"] for one in json.loads(path.read_text(encoding="utf-8"))}
    if known.get(board) is None:
        names = ", ".join(str(client) for client, plan in sorted(known.items()) if plan is not None)
        raise UserError(f"--board {board}: has no submodel in {path}; those that have: {names}")
    return str(known[board])


def _tensors(path: Path) -> Dict[str, Tensor]:
    """Return the tensors of a file of safetensors: a header's length, a JSON header, numbers end to end."""
    data = path.read_bytes()
    (length,) = _LENGTH.unpack_from(data)
    header = json.loads(data[_LENGTH.size : _LENGTH.size + length])
    found = {}
    for name, entry in header.items():
        if name != "__metadata__":
            first, last = (_LENGTH.size + length + offset for offset in entry["data_offsets"])
            numbers = np.frombuffer(data[first:last], _FLOATS[entry["dtype"]])
            found[name] = torch.from_numpy(numbers.reshape(entry["shape"]).astype(np.float32))
    return found
