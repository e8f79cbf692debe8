"""A board that serves: it answers what came of its own stream, chooses what goes up, and takes the sets that come.

Its rules and its bytes are those of simulated boards: see ``cosp.adaptation``.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from typing import Any, Dict, Optional, Tuple

import numpy as np
import torch

from cosp.adaptation.answers import Answers
from cosp.adaptation.asked import Ask
from cosp.adaptation.download import Form, Held, UnknownBase, form_of, received
from cosp.adaptation.posted import Model, Post, Scale
from cosp.adaptation.upload import Seen
from cosp.adaptation.upward import report_of, to_bytes
from cosp.recipe import Recipe
from cosp.seeds import numpy_stream
from cosp.submodel.shape import layout_of
from cosp.submodel.words import recoded
from cosp.trainer.samples import Samples
from cosp.trainer.stream import Came, Stream
from cosp.trainer.trainer import Trainer

Served = Tuple[Dict[str, Any], np.ndarray]
"""JSON-able facts, and the bytes of a report as uint8, none where there was nothing to answer."""


@dataclass(frozen=True)
class Memory:
    """What a board remembers in ``run``: the set that it has, how far it is in its stream, and what its rule saw."""

    run: str
    place: int
    held: Optional[Held] = None
    seen: Seen = field(default_factory=Seen)


class Streaming:
    """Answers ``stream`` by means of ``trainer``. What is remembered changes once an ask is done, or not at all."""

    def __init__(self, trainer: Trainer, stream: Stream, recipe: Recipe) -> None:
        self._trainer, self._stream = trainer, stream
        self._scale = Scale(recipe.kind, recipe.mean or (), recipe.std or (), recipe.white)
        self._memory = Memory(run="", place=0)

    def serve(self, ask: Ask, message: bytes) -> Served:
        """Answer what came with the set that is here, and then take the one in ``message``, if there is one.

        A change of what is not here is not taken: ``has`` of the facts says what is, and the server sends the whole.
        """
        memory = self._memory if self._memory.run == ask.run else Memory(ask.run, ask.place)
        facts, data = {"samples": 0}, b""
        if memory.held is not None:
            came = self._stream.since(memory.place, ask.most)
            if len(came.x):
                facts, data, memory = self._answered(ask, came, memory, memory.held)
            memory = replace(memory, place=came.place)
        if message:
            memory = replace(memory, held=_taken(message, memory.held, _form(ask)))
        self._memory = memory
        has = None if memory.held is None else memory.held.version
        return {**facts, "has": has, "place": memory.place}, np.frombuffer(data, np.uint8)

    def _answered(self, ask: Ask, came: Came, memory: Memory, held: Held) -> Tuple[Dict[str, Any], bytes, Memory]:
        """Return facts and the report of what ``came``, and what is remembered after it."""
        task = replace(ask.task, first=0, last=len(came.x))
        weights = torch.from_numpy(held.weights)
        words = task.plan.words
        x = came.x if words is None else recoded(came.x, words, task.held_shape.unknown)
        self._trainer.splits = {task.split: Samples(x, np.zeros(len(x), np.int64))}
        try:
            facts, vector = self._trainer.run(task, weights)
        finally:
            self._trainer.splits = {}
        logits = vector.numpy().reshape(len(x), -1, task.shape.classes)
        answers = Answers(logits, ask.exit, np.arange(memory.place, memory.place + len(x)))
        post = Post(ask.upload, self._scale, task.shape)
        rng = numpy_stream(task.seed, "choice", task.client, memory.place)
        choice, seen, payload = post.chosen(answers, came.x, Model(task.plan, weights), memory.seen, rng)
        if len(choice.rows):
            print(f"trainer: {len(choice.rows)} of {len(x)} samples leave this board", file=sys.stderr, flush=True)
        if came.y is not None:
            facts = {**facts, "right": int((answers.predicted == came.y).sum())}
        return facts, to_bytes(report_of(answers, held.version, payload)), replace(memory, seen=seen)


def _form(ask: Ask) -> Form:
    return form_of(layout_of(ask.task.held_shape), ask.task.spans, ask.download)


def _taken(message: bytes, held: Optional[Held], form: Form) -> Optional[Held]:
    """Return what is here after ``message``; nothing if it changes what is not here."""
    try:
        return received(message, held, form)
    except UnknownBase:
        return None
