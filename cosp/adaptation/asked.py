"""What a server asks of a real board that serves, as one JSON text."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Dict

from cosp.adaptation.download import DownloadSettings
from cosp.adaptation.posted import UpSettings
from cosp.adaptation.tokens import TokenSettings
from cosp.task.serial import task_from_json, task_to_json
from cosp.task.task import Task


@dataclass(frozen=True)
class Ask:
    """``task``, of kind "serve", says with which submodel; ``exit``: whose answers count, as an index into those of its
    plan.

    A board answers ``most`` samples at most, those that came first, and sends what ``upload`` chooses. What a board
    remembers is of one ``run``: in another, or where it remembers nothing, it begins behind ``place`` samples of its
    stream. ``download`` is how a set that comes beside is read.
    """

    task: Task
    run: str
    place: int
    most: int
    exit: int
    upload: UpSettings
    download: DownloadSettings


def ask_to_json(ask: Ask) -> str:
    value = {name: getattr(ask, name) for name in ("run", "place", "most", "exit")}
    value["task"] = json.loads(task_to_json(ask.task))
    value["upload"], value["download"] = asdict(ask.upload), asdict(ask.download)
    return json.dumps(value, sort_keys=True)


def ask_from_json(text: str) -> Ask:
    """Undo :func:`ask_to_json`; KeyError, TypeError or ValueError if it is none."""
    value: Dict[str, Any] = json.loads(text)
    upload = value["upload"]
    return Ask(
        **{
            **value,
            "task": task_from_json(json.dumps(value["task"])),
            "upload": UpSettings(**{**upload, "tokens": TokenSettings(**upload["tokens"])}),
            "download": DownloadSettings(**value["download"]),
        }
    )
