"""Directories of runs that have ended, made of random weights: what ``RUN/model`` holds, and no run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from cosp.checkpoints.own import (
    BOARDS,
    FACTS,
    MODEL,
    WEIGHTS,
    BoardPlan,
    ExitScores,
    Facts,
    Reading,
    boards_json,
)
from cosp.models import TextShape, TransformerShape, ViTShape
from cosp.submodel.plan import SubmodelPlan
from cosp.submodel.slicing import State


def facts_of(shape: TransformerShape, **changes: Any) -> Facts:
    kind = "images" if isinstance(shape, ViTShape) else "texts" if isinstance(shape, TextShape) else "series"
    channels = 0 if kind == "texts" else shape.sample_shape[0 if kind == "images" else -1]
    reading = Reading(
        kind=kind, mean=(3.0,) * channels, std=(2.0,) * channels, white=16.0 if kind == "images" else None
    )
    given: dict[str, Any] = {
        "name": "made up",
        "method": "co-s2p",
        "seed": 0,
        "version": 3,
        "data": "nothing",
        "samples": {"train": 1, "validation": 1, "test": 1},
        "shape": shape,
        "plan": shape.full_plan(),
        "classes": tuple(f"class {i}" for i in range(shape.classes)),
        "chosen_exit": shape.exits[-1],
        "scores": tuple(
            ExitScores(after=after, accuracy=0.5, macro_f1=0.25, loss=1.0, validation_accuracy=0.75)
            for after in shape.exits
        ),
        "reading": reading,
        "versions": {"cosp": "0"},
    }
    return Facts(**{**given, **changes})


def finished_run(folder: Path, facts: Facts, state: State, *plans: SubmodelPlan | None) -> Path:
    """Write ``folder/model``; client n's submodel is ``plans[n]``."""
    model = folder / MODEL
    model.mkdir(parents=True)
    (folder / "rows.jsonl").write_text("")
    (model / FACTS).write_text(json.dumps(facts.as_json()))
    save_file(state, model / WEIGHTS)
    boards = [BoardPlan(client=n, board="nano", plan=plan) for n, plan in enumerate(plans or (facts.plan,))]
    (model / BOARDS).write_text(boards_json(boards, facts.shape))
    return folder
