"""A board's side of the ClientApp: the board's trainer process does the work. Imports no torch.

Node config: ``trainer-socket``; ``partition-id``, the client's number; ``board``, its name in rows and reports;
``keep``, the share of the model's parameters that it takes (none: what fits its memory); ``memory-bytes``, what a task
may take (none: what the trainer sees); ``idle-w``, what the board draws when it waits.
"""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flwr.app import Array, Context, Message, UserConfig

from cosp.errors import ConfigError, CospError
from cosp.fleet.introduction import Introduction
from cosp.recipe import recipe_from
from cosp.trainer.hand_over import describe, hand_ask, hand_over
from cosp.wire import records


def introduce(message: Message, context: Context) -> Message:
    """Say who this client is: what the node config says, and what the trainer knows of its data."""
    node = context.node_config
    if why := records.kept_out(message):
        print(f"cosp: the server keeps this board out: {why}", file=sys.stderr, flush=True)
    found = describe(_socket(node), words=records.asks_words(message))
    return records.introduction_reply(
        message,
        Introduction(
            client=_number(node),
            board=str(node.get("board", platform.machine())),
            link="own",
            keep=float(node["keep"]) if "keep" in node else None,
            memory_bytes=int(node.get("memory-bytes", found["memory_bytes"])),
            samples=found["samples"],
            test_samples=found["test_samples"],
            class_counts=tuple(found["class_counts"]),
            idle_w=float(node.get("idle-w", 0.0)),
            gpu=str(found["device"]).startswith("cuda"),
            recipe=recipe_from(json.dumps(found["recipe"])),
            words=tuple(found["words"]) if "words" in found else None,
            keeps_frozen=True,
        ),
    )


def work(message: Message, context: Context) -> Message:
    """Have the trainer do the task of an instruction."""
    task = records.task_text(message)
    _check_number(json.loads(task), context)
    facts, found = hand_over(_socket(context.node_config), task, records.weights_of(message).numpy())
    return records.reply(message, facts, Array(found))


def serve(message: Message, context: Context) -> Message:
    """Have the trainer answer what came of its stream, and take the set that the message brings."""
    ask = records.task_text(message)
    _check_number(json.loads(ask)["task"], context)
    brought = records.weights_of(message).numpy().tobytes()
    facts, found = hand_ask(_socket(context.node_config), ask, brought)
    return records.reply(message, facts, Array(found))


def _check_number(task: Mapping[str, Any], context: Context) -> None:
    own = _number(context.node_config)
    if task["client"] != own:
        raise CospError(f"client {own} was sent the task of client {task['client']}")


def _socket(node: UserConfig) -> Path:
    return Path(str(node["trainer-socket"]))


def _number(node: UserConfig) -> int:
    number = node.get("partition-id")
    if not isinstance(number, int) or number < 0:
        raise ConfigError(f"node config: partition-id: must be the client's number, 0 or more, got {number!r}")
    return number
