"""A task as a JSON text and back: what travels to a worker, a board, or a checkpoint."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict, replace
from functools import lru_cache
from typing import Any, Dict, Optional

from cosp.models import shape_from_json, shape_to_json
from cosp.submodel.plan import SubmodelPlan, Units, words_from_bytes, words_to_bytes
from cosp.submodel.shape import TransformerShape
from cosp.task.compression import CompressionSettings
from cosp.task.local import LocalSettings
from cosp.task.privacy import PrivacySettings
from cosp.task.scoring import ScoreSettings
from cosp.task.task import Beside, Task
from cosp.task.training import TrainSettings
from cosp.transfer import TransferSettings


def task_to_json(task: Task) -> str:
    """Return ``task`` as one JSON text; plans are bit sets in base64."""
    # asdict would copy every index of the plans
    value = asdict(replace(task, plan=None, within=(), beside=()))  # type: ignore[arg-type]
    value["shape"] = shape_to_json(task.shape)
    value["plan"] = _text_of(task.plan, task.shape)
    if not task.training.frozen:
        del value["training"]["frozen"]  # as older boards know it
    if not task.frozen.halves:
        del value["training"]["frozen_as"]
    if not task.training.checkpointing:
        del value["training"]["checkpointing"]
    if task.training.privacy is None:
        del value["training"]["privacy"]
    if not task.kept:
        del value["kept"]
    if task.beside:
        value["beside"] = [(one.client, one.turn, _text_of(one.plan, task.shape)) for one in task.beside]
    else:
        del value["beside"]
    value["within"] = [_text_of(plan, task.shape) for plan in task.within]
    if task.plan.words is not None:  # older boards know no such key
        value["words"] = base64.b64encode(words_to_bytes(task.plan.words, task.shape.words)).decode()
    return json.dumps(value, sort_keys=True)


def task_from_json(text: str) -> Task:
    """Undo :func:`task_to_json`; KeyError, TypeError or ValueError if it is none."""
    value: Dict[str, Any] = json.loads(text)
    shape = shape_from_json(value["shape"])
    scoring, words = value["scoring"], value.pop("words", None)
    return Task(
        **{
            **value,
            "shape": shape,
            "plan": _with_words(_plan_of(value["plan"], shape), words, shape),
            "within": tuple(_plan_of(plan, shape) for plan in value["within"]),
            "local": LocalSettings(**value["local"]),
            "compression": CompressionSettings(**value["compression"]),
            "training": _training_of(value["training"]),
            "transfer": TransferSettings(**value["transfer"]),
            "kept": tuple((name, content) for name, content in value.get("kept", ())),
            "beside": tuple(
                Beside(client, turn, _plan_of(plan, shape)) for client, turn, plan in value.get("beside", ())
            ),
            "scoring": None if scoring is None else ScoreSettings(**scoring),
        }
    )


def _training_of(value: Dict[str, Any]) -> TrainSettings:
    privacy = value.get("privacy")
    return TrainSettings(**{**value, "privacy": None if privacy is None else PrivacySettings(**privacy)})


def _text_of(plan: SubmodelPlan, shape: TransformerShape) -> str:
    return base64.b64encode(plan.to_bytes(shape.sizes)).decode()


def _with_words(plan: SubmodelPlan, words: Optional[str], shape: TransformerShape) -> SubmodelPlan:
    return plan if words is None else replace(plan, words=_words_of(words, shape.words))


@lru_cache(maxsize=256)  # a client's are the same at every task
def _words_of(text: str, vocabulary: int) -> Units:
    return words_from_bytes(base64.b64decode(text), vocabulary)


@lru_cache(maxsize=256)  # many methods send a client the same plan again
def _plan_of(text: str, shape: TransformerShape) -> SubmodelPlan:
    return SubmodelPlan.from_bytes(base64.b64decode(text), shape.sizes)
