"""Real boards of a stream but for processes and a network: what their trainers do, over Flower's own bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from flwr.app import Array, Error, Message
from postal import FIRST, PostalGrid

from cosp.adaptation.asked import ask_from_json
from cosp.experiment import Experiment
from cosp.recipe import Recipe
from cosp.run.recipe import recipe_of
from cosp.trainer.stream import open_stream
from cosp.trainer.streaming import Streaming
from cosp.trainer.trainer import Trainer
from cosp.wire import records

Lie = Callable[[Message, Message], Message | Sequence[Message]]
"""From a request and the honest reply to what is sent instead."""


class ServedBoards(PostalGrid):
    """Clients with a stream serve it; a second goes by whenever the server waits. ``at``: what happens once, by time.

    ``lies``: client -> what it makes of its replies.
    """

    def __init__(
        self,
        experiment: Experiment,
        streams: Mapping[int, Path | None],
        *,
        lies: Mapping[int, Lie] | None = None,
        at: Mapping[float, Callable[[ServedBoards], None]] | None = None,
    ) -> None:
        super().__init__([FIRST + client for client in streams])
        self.experiment, self.recipe = experiment, recipe_of(experiment)
        self.streams, self.lies, self._at = dict(streams), dict(lies or {}), dict(at or {})
        self.boards: dict[int, Streaming] = {}
        self.recipes: dict[int, Recipe] = {}
        """By client, by which other one its store was made."""
        self.now_s = 0.0
        for client in streams:
            self.restart(client)

    def restart(self, client: int) -> None:
        """Have a trainer that remembers nothing in the place of a client's."""
        stream = self.streams[client]
        if stream is not None:
            trainer = Trainer({}, {}, device="cpu", sparing=True)
            self.boards[client] = Streaming(trainer, open_stream(stream, self.recipe), self.recipe)

    def clock(self) -> float:
        return self.now_s

    def idle(self, at_most_s: float) -> None:
        self.now_s += 1.0
        for due_s in [due_s for due_s in self._at if due_s <= self.now_s]:
            self._at.pop(due_s)(self)

    def answers(self, request: Message) -> Sequence[Message]:
        client = request.metadata.dst_node_id - FIRST
        if request.metadata.message_type == "query":
            told = replace(self.experiment.introduction(client), recipe=self.recipes.get(client, self.recipe))
            return [records.introduction_reply(request, told)]
        reply = self._served(request, client)
        told = self.lies[client](request, reply) if client in self.lies else reply
        return told if isinstance(told, Sequence) else [told]

    def _served(self, request: Message, client: int) -> Message:
        if client not in self.boards:
            return Message(Error(2, "TrainerError: refused: this board serves no stream"), reply_to=request)
        brought = records.weights_of(request).numpy()
        facts, found = self.boards[client].serve(ask_from_json(records.task_text(request)), brought.tobytes())
        return records.reply(request, {**facts, "recipe": self.recipe.mark}, Array(found))


def raw_stream(folder: Path, experiment: Experiment, rows: Iterable[int], *, dark: bool = False) -> Path:
    """Write test images as a board meets them, in its units, with their labels; ``dark``: with half of their light."""
    test, dataset, chosen = experiment.splits["test"], experiment.dataset, list(rows)
    mean, std = (np.reshape(values, (-1, 1, 1)) for values in (dataset.mean, dataset.std))
    raw = np.rint(np.asarray(test.x[chosen]) * std + mean).transpose(0, 2, 3, 1)
    path = folder / f"stream-{chosen[0]}.npz"
    np.savez(path, x=raw / 2 if dark else raw, y=test.y[chosen], classes=np.array(dataset.classes))
    return path
